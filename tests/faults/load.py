"""Load: what goes on in the house meanwhile: staff who send, staff who watch. Each keeps books of what it was told."""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from tests.faults.house import House
from tests.support.stack import GraphQLClient

_PATIENTS = """mutation ($input: CreatePatientInput!) {
  createPatient(input: $input) { patient { id } errors { field message code } }
}"""
_SEND = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id } errors { field message code } }
}"""
_LIST = """query ($after: String) { messages(first: 200, after: $after) {
  nodes { id status } pageInfo { hasNextPage endCursor } liveCursor
} }"""
_WATCH = """subscription ($since: String, $only: [ID!]) {
  messageStatusChanged(since: $since, messageIds: $only) { message { id status } cursor }
}"""
_ONE = "query ($id: ID!) { messages(first: 1) { liveCursor } message(id: $id) { status } }"
# What becomes of an email, by its address (docs/sandbox.md).
LIVES = ("delivered", "opened", "machine-open", "deferred", "late-bounce", "soft", "bounced", "complained", "silent")

_AT_THE_MAIL_SERVER = ("smtp", "greylisted", "slow")


class Door(Protocol):
    """Where clients come in: a house, or what another process knows of it."""

    @property
    def url(self) -> str: ...

    @property
    def client(self) -> GraphQLClient: ...


@dataclass(slots=True)
class Sends:
    """Staff who send until they are told that it was taken, each wish under a key of its own."""

    house: House
    rng: random.Random
    patients: dict[str, str] = field(default_factory=dict)
    """Global id by kind of life, and `smtp`."""
    taken: dict[str, str] = field(default_factory=dict)
    """What was acknowledged: the global id of a message, by its subject."""
    tries: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    """How mutations ended that were not taken: the code of a GraphQL error, or the name of an exception."""
    seconds: list[float] = field(default_factory=list)
    _number: int = 0

    async def prepare(self) -> None:
        for life in LIVES:
            self.patients[life] = await self.add_patient(f"{life}@sandbox.example")
        self.patients["smtp"] = await self.add_patient("pat@mail.example")

    async def send(self, *, smtp_share: float = 0.3, life: str | None = None) -> None:
        """One wish, until it is acknowledged; again with its key each time. `life` is drawn unless it is given."""
        self._number += 1
        subject = f"Results {self._number}"
        if life is None:
            life = "smtp" if self.rng.random() < smtp_share else self.rng.choice(LIVES)
        smtp = life in _AT_THE_MAIL_SERVER
        wish = {
            "patientId": self.patients[life],
            "accountId": self.house.accounts["SMTP" if smtp else "ESP"],
            "subject": subject,
            "text": "Please call us.",
            "idempotencyKey": subject,
        }
        while True:
            self.tries[subject] += 1
            began = time.perf_counter()
            try:
                answer = await self.house.client.raw(_SEND, input=wish)
            except (httpx2.HTTPError, json.JSONDecodeError) as error:
                self.codes[type(error).__name__] += 1
            else:
                if "errors" not in answer:
                    self.seconds.append(time.perf_counter() - began)
                    payload = answer["data"]["sendMessage"]
                    assert payload["errors"] == [], payload
                    self.taken[subject] = payload["message"]["id"]
                    return
                self.codes.update(error["extensions"]["code"] for error in answer["errors"])
            await asyncio.sleep(0.1)

    async def keep_sending(self, stop: asyncio.Event, per_second: float, **options: Any) -> None:
        """Wishes at a rate, whether or not the earlier ones were taken; returns once all of them were."""
        async with asyncio.TaskGroup() as group:
            due = time.monotonic()
            while not stop.is_set():
                group.create_task(self.send(**options))
                due += 1 / per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def add_patient(self, email: str) -> str:
        made = (await self.house.client(_PATIENTS, input={"name": "Pat Example", "email": email}))["createPatient"]
        assert made["errors"] == []
        patient_id: str = made["patient"]["id"]
        return patient_id


async def read_list(house: Door) -> tuple[dict[str, str], str]:
    """The status of every message, and the cursor from which a subscription goes on: the first page's, for what
    changes while later ones are read is told again."""
    found: dict[str, str] = {}
    after, cursor = None, None
    while True:
        page = (await house.client(_LIST, after=after))["messages"]
        cursor = cursor or page["liveCursor"]
        found.update({node["id"]: node["status"] for node in page["nodes"]})
        if not page["pageInfo"]["hasNextPage"]:
            assert cursor is not None
            return found, cursor
        after = page["pageInfo"]["endCursor"]


@dataclass(slots=True)
class Watcher:
    """Somebody at the Messages page: reads the list once, then believes what the subscription tells, and comes back
    with the last cursor whenever the connection ends."""

    house: Door
    only: str | None = None
    """The global id of the one message that is watched; None watches all."""
    statuses: dict[str, str] = field(default_factory=dict)
    cursor: str | None = None
    told: int = 0
    connections: int = 0
    reread: int = 0
    """How often the server asked to read the list anew, as it may after a long absence."""

    async def watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            # An AssertionError is an answer that says why there is none just now.
            with contextlib.suppress(
                OSError, WebSocketException, httpx2.HTTPError, TimeoutError, json.JSONDecodeError, AssertionError
            ):
                if self.cursor is None:
                    await self._read()
                await self._listen(stop)
            await asyncio.sleep(0.1)

    async def _read(self) -> None:
        if self.only is None:
            self.statuses, self.cursor = await read_list(self.house)
            return
        found = await self.house.client(_ONE, id=self.only)
        self.cursor = found["messages"]["liveCursor"]
        self.statuses = {self.only: found["message"]["status"]}

    async def _listen(self, stop: asyncio.Event) -> None:
        url = self.house.url.replace("http://", "ws://") + "/graphql"
        # A page pings too (or loses its connection to a proxy that hears nothing for a minute).
        async with connect(
            url,
            subprotocols=[Subprotocol("graphql-transport-ws")],
            open_timeout=5,
            close_timeout=1,
            ping_interval=3,
            ping_timeout=3,
            proxy=None,
        ) as socket:
            self.connections += 1
            sign_in = {"type": "connection_init", "payload": {"Authorization": f"Bearer {self.house.client.token}"}}
            await socket.send(json.dumps(sign_in))
            wish = {"query": _WATCH, "variables": {"since": self.cursor, "only": self.only and [self.only]}}
            async with asyncio.timeout(5):
                assert json.loads(await socket.recv())["type"] == "connection_ack"
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": wish}))
            while not stop.is_set():
                try:
                    async with asyncio.timeout(0.5):
                        message = json.loads(await socket.recv())
                except TimeoutError:
                    continue
                if message["type"] != "next" or message["payload"].get("errors"):
                    if "CURSOR_EXPIRED" in json.dumps(message):
                        self.reread += 1
                        self.cursor = None
                    return
                change = message["payload"]["data"]["messageStatusChanged"]
                self.statuses[change["message"]["id"]] = change["message"]["status"]
                self.cursor = change["cursor"]
                self.told += 1
