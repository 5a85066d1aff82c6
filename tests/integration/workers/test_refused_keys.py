"""A key that is refused shows on its account with what was said, until a send is accepted or the credentials change."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from api.roles import Role
from db.account_health import note_refusal
from db.accounts import Account
from mail.status import AccountKind
from tests.integration.workers.sending import OFTEN, Desk, faults
from tests.support.stack import until

HEALTH = "{ sendingAccounts { health { credentialsRefusedAt credentialsRefusal advice { code severity text } } } }"


class Watcher:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def health(self) -> dict[str, Any]:
        client = await self.desk.stack.client(str(self.desk.client.http.base_url), self.desk.practice, Role.ADMIN)
        [found] = (await client(HEALTH))["sendingAccounts"]
        health: dict[str, Any] = found["health"]
        return health

    async def refused(self) -> dict[str, Any]:
        async def look() -> Any:
            health = await self.health()
            return health if health["credentialsRefusedAt"] else None

        found: dict[str, Any] = await until(look)
        return found


async def through(desk: Desk) -> tuple[Account, str]:
    """An account of a sandbox ESP that posts no events."""
    return await desk.stack.esp(desk.practice, str(desk.client.http.base_url).rstrip("/"), webhook_urls=[])


async def test_a_key_that_the_esp_refuses_shows_until_other_credentials_are_entered(desk: Desk) -> None:
    account, esp_url = await through(desk)
    await desk.stack.point(desk.practice, account, {"api_key": "SG.unknown", "base_url": esp_url}, [])
    await desk.stack.worker(sweep_interval=OFTEN)
    await desk.reaches(await desk.write(account, "silent@sandbox.example"), "FAILED")
    health = await Watcher(desk).refused()
    assert health["credentialsRefusal"] == "the API key is missing or unknown"
    advice = [(each["code"], each["severity"]) for each in health["advice"]]
    assert ("KEY_REFUSED", "PROBLEM") in advice
    assert "the API key is missing or unknown" in health["advice"][0]["text"]
    assert "SG.unknown" not in str(health)
    await desk.stack.point(desk.practice, account, {"api_key": "SG.sandbox", "base_url": esp_url}, [])
    health = await Watcher(desk).health()
    assert (health["credentialsRefusedAt"], health["credentialsRefusal"]) == (None, None)


async def test_an_account_without_its_key_sends_nothing_and_says_what_is_missing(desk: Desk) -> None:
    account, esp_url = await through(desk)
    await desk.stack.point(desk.practice, account, {"base_url": esp_url}, [])
    await desk.stack.worker(sweep_interval=OFTEN)
    await desk.reaches(await desk.write(account, "silent@sandbox.example"), "FAILED")
    assert (await Watcher(desk).refused())["credentialsRefusal"] == "Enter the API key."


async def test_the_next_send_that_is_accepted_takes_it_back(desk: Desk) -> None:
    account, esp_url = await through(desk)
    await faults(esp_url, {"send_status": 403})
    await desk.stack.worker(sweep_interval=OFTEN)
    await desk.reaches(await desk.write(account, "silent@sandbox.example"), "FAILED")
    await Watcher(desk).refused()
    await desk.reaches(await desk.write(account, "silent@sandbox.example"), "SENT")
    assert (await Watcher(desk).health())["credentialsRefusedAt"] is None


async def test_a_limit_of_the_moment_and_a_bad_email_say_nothing_of_the_key(desk: Desk) -> None:
    account, esp_url = await through(desk)
    await faults(esp_url, {"send_status": 413}, {"send_status": 429, "retry_after": 60})
    first = await desk.write(account, "silent@sandbox.example")
    await desk.stack.worker(sweep_interval=OFTEN)
    await desk.reaches(first, "FAILED")
    await desk.explained(await desk.write(account, "silent@sandbox.example"), "RETRYING")
    assert (await Watcher(desk).health())["credentialsRefusedAt"] is None


async def test_a_mail_server_that_refuses_the_password_shows(desk: Desk) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-mail.example\r\n250 AUTH PLAIN\r\n")
            elif verb == b"AUTH":
                writer.write(b"535 5.7.8 Bad credentials\r\n")
            else:
                writer.write(b"250 ok\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = str(server.sockets[0].getsockname()[1])
        account = await desk.account(
            AccountKind.SMTP, host="127.0.0.1", port=port, security="none", username="u", password="p"
        )
        await desk.stack.worker(sweep_interval=OFTEN)
        await desk.explained(await desk.write(account), "RETRYING")
        health = await Watcher(desk).refused()
    assert health["credentialsRefusal"] == "535 5.7.8 Bad credentials"
    assert [each["code"] for each in health["advice"]] == ["KEY_REFUSED"]


async def test_a_refusal_under_credentials_that_were_replaced_since_says_nothing(desk: Desk) -> None:
    account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port="1", security="none")
    async with desk.stack.database.tenant(desk.practice.id) as connection:
        began = await connection.fetchval("SELECT now()")
    await desk.stack.point(desk.practice, account, {"host": "127.0.0.1", "port": "2", "security": "none"}, [])
    for since, noted in ((began, False), (datetime.now(UTC) + timedelta(seconds=5), True)):
        async with desk.stack.database.tenant(desk.practice.id) as connection:
            await note_refusal(connection, desk.practice.id, account.id, "no", since)
        assert ((await Watcher(desk).health())["credentialsRefusedAt"] is not None) is noted
