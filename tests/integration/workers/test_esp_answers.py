"""What an ESP answers to a send, and what the message says of it."""

from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from db.accounts import Account
from mail.status import AccountKind
from tests.integration.workers.sending import OFTEN, Desk, accepted, faults, kinds, relay

SILENT = "silent@sandbox.example"


async def through(desk: Desk) -> tuple[Account, str]:
    """An account of a sandbox ESP that posts no events, so that what is seen is the sending's."""
    account, url = await desk.stack.esp(desk.practice, str(desk.client.http.base_url).rstrip("/"))
    async with httpx2.AsyncClient(base_url=url, headers={"authorization": "Bearer SG.sandbox"}) as client:
        (await client.patch("/v3/user/webhooks/event/settings", json={"enabled": False})).raise_for_status()
    return account, url


async def test_an_esp_that_is_out_of_order_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mail.retry.FIRST_DELAY", OFTEN)
    account, esp_url = await through(desk)
    await faults(esp_url, {"send_status": 503, "times": 2})
    written = await desk.write(account, SILENT)
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.reaches(written, "SENT")
    assert kinds(message) == ["ATTEMPT_DEFERRED", "ATTEMPT_DEFERRED", "ACCEPTED"]
    assert message["explanation"]["code"] == "AWAITING_ANSWER"
    assert message["events"]["nodes"][0]["failure"]["reason"] == "a fault that was asked for"
    assert len(await accepted(esp_url)) == 1


async def test_an_esp_that_asks_to_wait_is_given_the_time_that_it_asks_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mail.retry.FIRST_DELAY", timedelta(milliseconds=1))
    account, esp_url = await through(desk)
    await faults(esp_url, {"send_status": 429, "retry_after": 2})
    written = await desk.write(account, SILENT)
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.explained(written, "RETRYING")
    assert message["status"] == "QUEUED"
    message = await desk.reaches(written, "SENT")
    async with desk.stack.database.tenant(desk.practice.id) as connection:
        first, second = await connection.fetch("SELECT started_at, ended_at FROM attempt ORDER BY number")
    assert timedelta(seconds=2) <= second["started_at"] - first["started_at"] < timedelta(seconds=6)


async def test_a_key_that_the_esp_does_not_know_ends_as_failed(desk: Desk) -> None:
    account, esp_url = await through(desk)
    await desk.stack.point(desk.practice, account, {"api_key": "SG.unknown", "base_url": esp_url}, [])
    written = await desk.write(account, SILENT)
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.reaches(written, "FAILED")
    assert message["explanation"]["code"] == "REFUSED"
    assert message["failure"]["reason"] == "the API key is missing or unknown"
    assert await accepted(esp_url) == []


async def test_an_answer_that_is_lost_is_explained_as_may_arrive_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mail.retry.FIRST_DELAY", OFTEN)
    account, esp_url = await through(desk)
    await faults(esp_url, {"drop_after_accept": True})
    written = await desk.write(account, SILENT)
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.reaches(written, "SENT")
    assert kinds(message) == ["ATTEMPT_AMBIGUOUS", "ACCEPTED"]
    assert message["explanation"]["code"] == "MAY_ARRIVE_TWICE"
    assert len(await accepted(esp_url)) == 2


async def test_a_send_whose_answer_was_lost_is_confirmed_by_the_webhook_that_comes_for_it(desk: Desk) -> None:
    """The second attempt is seconds away: what the first one's events say counts before it."""
    api_url = str(desk.client.http.base_url).rstrip("/")
    account, esp_url = await desk.stack.esp(desk.practice, api_url)
    await faults(esp_url, {"drop_after_accept": True})
    written = await desk.write(account, "delivered@sandbox.example")
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.reaches(written, "DELIVERED")
    assert "ATTEMPT_AMBIGUOUS" in kinds(message)
    async with desk.stack.database.tenant(desk.practice.id) as connection:
        due = await connection.fetchval("SELECT due_at FROM message WHERE verdict = 'queued'")
    assert due is None


async def test_connections_to_an_esp_are_kept_open(desk: Desk) -> None:
    account, esp_url = await through(desk)
    port = int(esp_url.rpartition(":")[2])
    async with relay(port) as door:
        behind = f"http://127.0.0.1:{door.port}"
        await desk.stack.point(desk.practice, account, {"api_key": "SG.sandbox", "base_url": behind}, [])
        await desk.stack.worker(sweep_interval=OFTEN)
        for number in range(6):
            await desk.reaches(await desk.write(account, f"silent+{number}@sandbox.example"), "SENT")
        # Not seven: a worker that begins has the key checked too, perhaps while the first email goes out.
        assert door.opened <= 2
    assert len(await accepted(esp_url)) == 6


async def test_an_account_without_credentials_says_what_it_lacks(desk: Desk) -> None:
    account = await desk.account(AccountKind.SMTP, port="25")
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.reaches(await desk.write(account), "FAILED")
    assert message["failure"] == {
        "kind": "ACCOUNT",
        "smtpCode": None,
        "enhancedCode": None,
        "reason": "Name the mail server, for example mail.example.com.",
    }


async def test_a_message_for_later_goes_out_when_its_time_has_come(desk: Desk) -> None:
    account, esp_url = await through(desk)
    await desk.stack.worker(sweep_interval=OFTEN)
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    written = await desk.write(account, SILENT, scheduled_at=due)
    far = await desk.write(account, SILENT, scheduled_at=due + timedelta(hours=2))
    assert (await desk.read(written))["explanation"]["code"] == "SCHEDULED"
    await desk.reaches(written, "SENT")
    async with desk.stack.database.tenant(desk.practice.id) as connection:
        started = await connection.fetchval("SELECT min(started_at) FROM attempt")
    assert timedelta() <= started - due < timedelta(seconds=5)
    assert (await desk.read(far))["explanation"]["code"] == "SCHEDULED"
    assert len(await accepted(esp_url)) == 1
