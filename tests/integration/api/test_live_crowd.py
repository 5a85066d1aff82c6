"""Many subscribers at once: each ends with what a query says, and a change is put into words once for all who ask
alike."""

import asyncio
import json
import random
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from api.graphql.ids import global_id
from api.roles import Role
from db.events import Matched, record_events
from db.practices import Practice
from mail.event import EventKind, EventSource
from mail.ids import MessageId
from tests.integration.api.evidence import Evidence, event, make_messages
from tests.integration.api.sockets import LiveClient, hear, plain_socket, say, sign_in
from tests.support.practice import make_account, make_message, make_patient
from tests.support.stack import Stack, token_for

SELECTIONS = (
    "id status",
    "id statusLabel explanation { code nextStep }",
    "id status patient { name } account { name }",
    "id status events(first: 50) { nodes { kind } } failure { kind }",
)
LIVES = (
    (EventKind.ACCEPTED, EventKind.DEFERRED, EventKind.DELIVERED, EventKind.OPENED),
    (EventKind.ACCEPTED, EventKind.DELIVERED, EventKind.OPENED, EventKind.BOUNCED),
    (EventKind.ACCEPTED, EventKind.DEFERRED, EventKind.DELIVERED),
)


@dataclass
class Watching:
    """What one subscriber asked for and was told, the latest of each message by its id."""

    practice: Practice
    selection: str
    variables: dict[str, Any]
    wanted: set[str]
    cursor: str
    told: dict[str, Any] = field(default_factory=dict)
    cuts: int = 0

    @property
    def document(self) -> str:
        return (
            "subscription ($patientId: ID, $messageIds: [ID!], $since: String) { messageStatusChanged("
            "patientId: $patientId, messageIds: $messageIds, since: $since) "
            f"{{ message {{ {self.selection} }} cursor }} }}"
        )

    def take(self, change: dict[str, Any]) -> None:
        self.told[change["message"]["id"]] = change["message"]
        self.cursor = change["cursor"]


async def house(stack: Stack, practice: Practice, api: str, rng: random.Random, count: int) -> Any:
    """Four patients with five messages each, and subscribers to all, to a patient, or to some messages."""
    account = await make_account(stack.database, practice)
    patients = [await make_patient(stack.database, practice, f"p{n}@mail.example") for n in range(4)]
    messages = [await make_messages(stack.database, practice, patient, account, 5) for patient in patients]
    ids = [[global_id("Message", each) for each in some] for some in messages]
    everything = {each for some in ids for each in some}
    cursor = (await (await stack.client(api, practice))("{ messages { liveCursor } }"))["messages"]["liveCursor"]
    watching = []
    for number in range(count):
        place = number % 4
        chosen = sorted(rng.sample(sorted(everything), 3))
        variables, wanted = rng.choice(
            [
                ({}, everything),
                ({"patientId": global_id("Patient", patients[place].id)}, set(ids[place])),
                ({"messageIds": chosen}, set(chosen)),
            ]
        )
        watching.append(Watching(practice, rng.choice(SELECTIONS), variables, wanted, cursor))
    return [each for some in messages for each in some], watching


async def follow(one: Watching, servers: list[str], rng: random.Random, final: asyncio.Future[Any]) -> None:
    """Is cut off after a few changes and resumes with its cursor, until it was told what the query says."""
    role = rng.choice(list(Role))
    while not (final.done() and one.told == final.result()[one.selection, frozenset(one.wanted)]):
        async with LiveClient(rng.choice(servers), token_for(one.practice, role)) as client:
            asked = await client.start(one.document, **one.variables, since=one.cursor)
            for _ in range(rng.randint(8, 30)):
                try:
                    one.take(await client.change(asked, within=1.0))
                except TimeoutError:
                    break
            client.socket.transport.abort()
        one.cuts += 1


async def test_hundreds_of_subscribers_cut_at_random_end_with_what_the_query_says(
    stack: Stack, practice: Practice, other_practice: Practice, evidence: Evidence
) -> None:
    rng = random.Random(11)
    servers = [await stack.api(), await stack.api()]
    practices = (practice, other_practice)
    houses = [await house(stack, each, servers[0], rng, 100) for each in practices]
    finals = [asyncio.get_running_loop().create_future() for _ in practices]
    following = [
        asyncio.create_task(follow(one, servers, rng, final))
        for (_, watching), final in zip(houses, finals, strict=True)
        for one in watching
    ]
    work = [
        (home, message, kind)
        for home, (messages, _) in zip(practices, houses, strict=True)
        for message in messages
        for kind in rng.choice(LIVES)
    ]
    rng.shuffle(work)

    async def change(part: list[tuple[Practice, MessageId, EventKind]]) -> None:
        for home, message, kind in part:
            async with stack.database.tenant(home.id) as connection:
                # The number is taken first and the row later, so numbers and commits are in different orders.
                await connection.fetchval("SELECT pg_current_xact_id()::text")
                await asyncio.sleep(rng.random() / 50)
                found = [Matched(message, event(kind), EventSource.WEBHOOK, datetime.now(UTC))]
                await record_events(connection, home.id, found)
            await evidence.hurry.announce(home.id)

    async with asyncio.timeout(180):
        await asyncio.gather(*(change(work[start::4]) for start in range(4)))
        for home, (_, watching), final in zip(practices, houses, finals, strict=True):
            client = await stack.client(servers[1], home)
            shown = {}
            for selection in SELECTIONS:
                answer = await client(f"{{ messages(first: 100) {{ nodes {{ {selection} }} }} }}")
                shown[selection] = answer["messages"]["nodes"]
            final.set_result(
                {
                    (one.selection, frozenset(one.wanted)): {
                        node["id"]: node for node in shown[one.selection] if node["id"] in one.wanted
                    }
                    for one in watching
                }
            )
        await asyncio.gather(*following)
    everyone = [one for _, watching in houses for one in watching]
    assert all(set(one.told) == one.wanted for one in everyone)
    assert sum(one.cuts for one in everyone) > len(everyone)


async def test_a_change_is_put_into_words_once_for_all_who_ask_alike(
    stack: Stack, practice: Practice, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    import api.graphql.audience as audience

    executed = []
    execute = audience.execute
    monkeypatch.setattr(audience, "execute", lambda *given, **more: executed.append(1) or execute(*given, **more))
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    [message] = await make_messages(stack.database, practice, patient, account, 1)
    api = await stack.api()
    shown = (
        "subscription ($s: Boolean!, $p: ID) "
        "{ messageStatusChanged(patientId: $p) { message { id status @include(if: $s) } } }"
    )
    patient_id = global_id("Patient", patient.id)
    async with LiveClient(api, token_for(practice)) as one, LiveClient(api, token_for(practice, Role.ADMIN)) as admin:
        asked = [
            await one.start(shown, s=True),
            await one.start(shown, s=True, p=patient_id),
            await one.start(shown, s=False, p=patient_id),
            await admin.start(shown, s=True),
        ]
        await one.settle()
        await admin.settle()
        await evidence.of(practice, message, EventKind.DELIVERED)
        answers = [await one.change(each) for each in asked[:3]] + [await admin.change(asked[3])]
    full = {"message": {"id": global_id("Message", message), "status": "DELIVERED"}}
    assert answers == [full, full, {"message": {"id": full["message"]["id"]}}, full]
    # By variables that shape the answer, and by role; not by whom they watch.
    assert len(executed) == 3


def narrow_socket(api: str) -> socket.socket:
    """A connection whose own buffer is small, however large the system lets others grow."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.connect(("127.0.0.1", int(api.rpartition(":")[2])))
    return connection


async def test_a_client_that_does_not_read_gets_the_latest_later_and_delays_nobody(
    stack: Stack, practice: Practice, evidence: Evidence
) -> None:
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    # Uncompressed, for it takes megabytes to fill the buffers of the system.
    text = "Please call us. " * 20_000
    messages = [await make_message(stack.database, practice, patient, account, text=text) for _ in range(3)]
    api = await stack.api()
    long = "subscription { messageStatusChanged { message { id status text } } }"
    rounds = 40
    async with (
        plain_socket(api, sock=narrow_socket(api), compression=None, max_queue=None, max_size=None) as slow,
        LiveClient(api, token_for(practice)) as quick,
    ):
        await sign_in(slow, token_for(practice))
        watching = await quick.watch()
        await say(slow, {"id": "1", "type": "subscribe", "payload": {"query": long}})
        await say(slow, {"id": "2", "type": "subscribe", "payload": {"query": "{ viewer { role } }"}})
        assert (await hear(slow))["type"] == "next"
        slow.transport.pause_reading()
        for number in range(rounds):
            kind = EventKind.OPENED if number == rounds - 1 else EventKind.DEFERRED
            for message in messages:
                await evidence.of(practice, message, kind)
        status: dict[str, str] = {}
        while status != {global_id("Message", each): "OPENED" for each in messages}:
            told = await quick.change(watching, within=5)
            status[told["message"]["id"]] = told["message"]["status"]
        slow.transport.resume_reading()
        slowly: dict[str, str] = {}
        frames = 0
        async with asyncio.timeout(20):
            while slowly != status:
                answer = json.loads(await slow.recv())
                if answer["type"] == "next" and answer["id"] == "1":
                    frames += 1
                    message_told = answer["payload"]["data"]["messageStatusChanged"]["message"]
                    slowly[message_told["id"]] = message_told["status"]
    assert 3 <= frames < rounds * 3
