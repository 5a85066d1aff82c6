"""Stored webhooks read again: what was missed is added, nothing shows twice, and what was right stays."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from api.graphql.ids import global_id
from api.roles import Role
from db.accounts import Account
from db.ids import uuid7
from db.inbox import NewDelivery, Only, Stored, store_deliveries
from db.messages import find_messages
from db.pool import Database
from db.practices import Practice
from mail.event import Event, EventKind, EventSource
from mail.failure import Failure, FailureKind
from mail.ids import DeliveryId, MessageId
from mail.providers.base import Reading, Unreadable
from mail.status import MessageStatus
from tests.integration.api.evidence import make_messages
from tests.integration.api.hooks import NOON, sendgrid_event, sendgrid_hook
from tests.support.databases import OWN_SEALER
from tests.support.fuzzing import examples
from tests.support.practice import make_account, make_message, make_patient, make_practice
from tests.support.stack import Stack, until
from workers.apply import Applier
from workers.jobs import Jobs
from workers.replay import Replayer, Report

QUEUED_AT = NOON - timedelta(minutes=1)
READ = "mail.providers.sendgrid.SendGrid.read_webhook"
YESTERDAY, TODAY = 1, 2


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Inbox:
    """One account's stored webhooks, each a list of events: what the provider reads in them is said by the test."""

    def __init__(self, database: Database, practice: Practice, account: Account, hurry: Jobs) -> None:
        self.database = database
        self.practice = practice
        self.account = account
        self.hurry = hurry
        self.webhooks: dict[bytes, list[Event]] = {}

    async def take(self, *events: Event) -> DeliveryId:
        delivery_id = DeliveryId(uuid7(datetime.now(UTC)))
        body = str(delivery_id).encode()
        self.webhooks[body] = list(events)
        delivery = NewDelivery(
            practice_id=self.practice.id,
            id=delivery_id,
            account_id=self.account.id,
            provider="sendgrid",
            headers={},
            body=body,
        )
        await store_deliveries(self.database.inbox, OWN_SEALER, [delivery])
        return delivery_id

    def reading(self, change: Callable[[Event], Event | None] = lambda event: event) -> Callable[..., Reading]:
        """A provider that reads each event as `change` says, and can't read those for which it gives None."""

        def read(_: object, body: bytes, headers: object) -> Reading:
            found = [(index, change(event)) for index, event in enumerate(self.webhooks[bytes(body)])]
            return Reading(
                [replace(event, place=index) for index, event in found if event is not None],
                [Unreadable(index, "not yet") for index, event in found if event is None],
            )

        return read

    async def apply(self, reader: int = YESTERDAY, batch: int = 500) -> None:
        await Applier(self.database, OWN_SEALER, self.hurry, reader=reader, batch=batch).apply_pending()

    async def replay(self, reader: int = TODAY, wanted: Stored | None = None, **options: Any) -> Report:
        total = Report()
        replayer = Replayer(self.database, OWN_SEALER, self.hurry, reader=reader, **options)
        async for page in replayer.replay(self.practice.id, wanted or Stored(), datetime(2019, 7, 24, tzinfo=UTC)):
            total.add(page.report)
        return total

    async def evidence(self, message: MessageId) -> list[tuple[Any, ...]]:
        """What shows of a message, without keys."""
        async with self.database.tenant(self.practice.id) as connection:
            rows = await connection.fetch(
                "SELECT kind::text, machine, occurred_at, received_at, detail, failure_reason FROM message_event "
                "WHERE message_id = $1 ORDER BY 1, 2, 3, 5, 6",
                message,
            )
        return [tuple(row) for row in rows]

    async def sums(self, message: MessageId) -> Any:
        return (await find_messages(self.database.app, self.practice.id, [message]))[message]

    async def rows(self) -> dict[str, list[Any]]:
        """Every row of the practice that a replay could change."""
        found = {}
        async with self.database.tenant(self.practice.id) as connection:
            for table in ("message", "message_event", "parked_event", "webhook_delivery", "patient", "sending_account"):
                rows = await connection.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")
                found[table] = [row[0] for row in rows]
        return found


@pytest.fixture
async def inbox(database: Database, practice: Practice, hurry: Jobs) -> Inbox:
    return Inbox(database, practice, await make_account(database, practice), hurry)


@pytest.fixture
async def message(inbox: Inbox) -> MessageId:
    patient = await make_patient(inbox.database, inbox.practice)
    return await make_message(inbox.database, inbox.practice, patient, inbox.account, at=QUEUED_AT)


def event(kind: EventKind, message: MessageId | None = None, *, minute: int = 0, **more: Any) -> Event:
    key = more.pop("key", f"{kind.value}/{minute}")
    at = NOON + timedelta(minutes=minute)
    return Event(kind=kind, occurred_at=at, dedupe_key=key, message_id=message, **more)


def rekeyed(of: Event) -> Event:
    return replace(of, dedupe_key=f"today/{of.dedupe_key}")


async def test_a_replay_by_the_same_program_changes_no_row(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading())
    await inbox.take(event(EventKind.DELIVERED, message), event(EventKind.OPENED, message, minute=1))
    await inbox.take(event(EventKind.OPENED, provider_message_id="nobody's"))
    await inbox.apply()
    before = await inbox.rows()
    assert await inbox.replay(YESTERDAY) == Report(read=2)
    assert await inbox.rows() == before


async def test_what_yesterday_could_not_read_is_added_and_told_as_a_replay(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading(lambda it: None if it.kind is EventKind.BOUNCED else it))
    await inbox.take(event(EventKind.DELIVERED, message), event(EventKind.BOUNCED, message, minute=1))
    await inbox.apply()
    monkeypatch.setattr(READ, inbox.reading())
    report = await inbox.replay()
    assert report == Report(
        read=1,
        added=1,
        changes={(MessageStatus.DELIVERED, MessageStatus.NOT_DELIVERED): 1},  # type: ignore[arg-type]
    )
    async with inbox.database.tenant(inbox.practice.id) as connection:
        rows = await connection.fetch("SELECT kind::text, source::text FROM message_event ORDER BY 1")
        assert [tuple(row) for row in rows] == [("bounced", EventSource.REPLAY.value), ("delivered", "webhook")]
        row = await connection.fetchrow("SELECT state::text, events, error, readers FROM webhook_delivery")
    assert row is not None
    assert tuple(row) == ("applied", 2, None, [])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(rekeyed, id="another key"),
        pytest.param(lambda it: replace(rekeyed(it), occurred_at=it.occurred_at - timedelta(hours=1)), id="and time"),
        pytest.param(lambda it: replace(rekeyed(it), detail="worded anew"), id="and detail"),
    ],
)
async def test_the_same_evidence_under_another_key_does_not_show_twice(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch, change: Callable[[Event], Event]
) -> None:
    monkeypatch.setattr(READ, inbox.reading())
    await inbox.take(event(EventKind.DELIVERED, message), event(EventKind.OPENED, message, minute=1))
    await inbox.apply()
    before = await inbox.rows()
    monkeypatch.setattr(READ, inbox.reading(change))
    assert (await inbox.replay()).added == 0
    assert await inbox.rows() == before


async def test_nor_does_an_event_that_the_esp_posted_twice(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading())
    for _ in range(2):
        await inbox.take(event(EventKind.DELIVERED, message))
    await inbox.apply()
    monkeypatch.setattr(READ, inbox.reading(rekeyed))
    assert (await inbox.replay(page=1)).added == 0
    assert len(await inbox.evidence(message)) == 1


async def test_two_events_of_one_kind_and_second_are_both_added(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one click on each of two links: with a page each, the second meets the first in the store."""
    monkeypatch.setattr(READ, inbox.reading(lambda _: None))
    await inbox.take(event(EventKind.CLICKED, message, key="one link"))
    await inbox.take(event(EventKind.CLICKED, message, key="another link"))
    await inbox.apply()
    monkeypatch.setattr(READ, inbox.reading())
    assert (await inbox.replay(page=1)).added == 2
    assert (await inbox.replay(page=1)).added == 0


async def test_an_event_that_was_unknown_is_told_beside_it_and_told_once(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading(lambda it: replace(it, kind=EventKind.UNKNOWN)))
    await inbox.take(event(EventKind.BOUNCED, message))
    await inbox.apply()
    assert (await inbox.sums(message)).verdict.name == "QUEUED"
    monkeypatch.setattr(READ, inbox.reading())
    assert [(await inbox.replay()).added for _ in range(3)] == [1, 0, 0]
    assert [row[0] for row in await inbox.evidence(message)] == ["bounced", "unknown"]
    assert (await inbox.sums(message)).verdict.name == "RETURNED"


async def test_a_reading_that_says_less_takes_nothing_back(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading())
    await inbox.take(event(EventKind.OPENED, message))
    await inbox.apply()
    before = await inbox.rows()
    monkeypatch.setattr(READ, inbox.reading(lambda it: replace(it, machine=True)))
    assert (await inbox.replay()).added == 0
    monkeypatch.setattr(READ, inbox.reading(lambda _: None))
    assert await inbox.replay() == Report(read=1, unreadable=1)
    assert await inbox.rows() == before


async def test_a_dry_run_tells_the_same_and_writes_nothing(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading(lambda _: None))
    await inbox.take(event(EventKind.DELIVERED, message))
    await inbox.take(event(EventKind.OPENED, message, minute=1), event(EventKind.OPENED, provider_message_id="x"))
    await inbox.apply()
    before = await inbox.rows()
    monkeypatch.setattr(READ, inbox.reading())
    would = await inbox.replay(dry_run=True)
    assert await inbox.rows() == before
    assert would == await inbox.replay()
    assert would.added == 2


async def test_only_what_is_asked_for_is_read(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading(lambda it: None if it.kind is EventKind.CLICKED else it))
    await inbox.take(event(EventKind.DELIVERED, message))
    await inbox.take(event(EventKind.OPENED, provider_message_id="nobody's"))
    await inbox.take(event(EventKind.CLICKED, message))
    await inbox.apply()
    await inbox.take(event(EventKind.OPENED, message))
    future = datetime.now(UTC) + timedelta(hours=1)
    for wanted, count in (
        (Stored(), 3),
        (Stored(only=Only.FAILED), 1),
        (Stored(only=Only.UNMATCHED), 1),
        (Stored(provider="postmark"), 0),
        (Stored(provider="sendgrid"), 3),
        (Stored(account_id=inbox.account.id), 3),
        (Stored(account_id=uuid7(NOON)), 0),
        (Stored(received_from=future), 0),
        (Stored(received_to=future), 3),
    ):
        assert (await inbox.replay(wanted=wanted)).read == count, wanted


async def test_a_replay_carries_on_where_it_was_stopped(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading(lambda _: None))
    for minute in range(5):
        await inbox.take(event(EventKind.OPENED, message, minute=minute))
    await inbox.apply()
    monkeypatch.setattr(READ, inbox.reading())
    replayer = Replayer(inbox.database, OWN_SEALER, None, reader=TODAY, page=2)
    tracked = datetime(2019, 7, 24, tzinfo=UTC)
    pages = replayer.replay(inbox.practice.id, Stored(), tracked)
    first = await anext(pages)
    await pages.aclose()
    assert await replayer.count(inbox.practice.id, Stored(), first.last) == 3
    rest = [page.report.read async for page in replayer.replay(inbox.practice.id, Stored(), tracked, first.last)]
    assert rest == [2, 1]
    assert len(await inbox.evidence(message)) == 5


async def test_a_parked_event_that_is_read_with_our_id_finds_its_message(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading(lambda it: replace(it, message_id=None, provider_message_id="x")))
    await inbox.take(event(EventKind.DELIVERED, message), event(EventKind.OPENED))
    await inbox.apply()
    assert len((await inbox.rows())["parked_event"]) == 2
    monkeypatch.setattr(
        READ, inbox.reading(lambda it: replace(rekeyed(it), provider_message_id=None if it.message_id else "x"))
    )
    report = await inbox.replay()
    assert (report.added, report.matched_now) == (1, 1)
    [waits] = (await inbox.rows())["parked_event"]
    assert "today/opened" in waits


histories = st.lists(
    st.builds(
        Event,
        kind=st.sampled_from([kind for kind in EventKind if kind.value not in {"failed", "cancelled"}]),
        occurred_at=st.integers(0, 3).map(lambda minute: NOON + timedelta(minutes=minute)),
        dedupe_key=st.text("abc", min_size=1, max_size=3),
        machine=st.booleans(),
        failure=st.sampled_from([None, Failure(FailureKind.OTHER, reason="first"), Failure(FailureKind.SPAM)]),
        provider_message_id=st.none() | st.just("theirs"),
    ),
    unique_by=lambda each: each.dedupe_key,
    min_size=1,
    max_size=8,
)
one_database = settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@one_database
@given(histories, st.data())
async def test_reading_it_all_later_comes_to_what_a_first_reading_comes_to(
    database: Database, database_url: str, hurry: Jobs, history: list[Event], data: st.DataObject
) -> None:
    """However the events were spread and repeated, and whatever of them could not be read at first."""
    # One of its own: a replay reads all that a practice has.
    practice = await make_practice(database_url, "Northgate Practice")
    posts = data.draw(st.lists(st.lists(st.sampled_from(history), min_size=1, max_size=4), min_size=1, max_size=5))
    lost = {
        (post, index) for post, events in enumerate(posts) for index in range(len(events)) if data.draw(st.booleans())
    }
    patient = await make_patient(database, practice)
    told = []
    for missed in (set(), lost):
        inbox = Inbox(database, practice, await make_account(database, practice), hurry)
        message = await make_message(database, practice, patient, inbox.account, at=QUEUED_AT)
        unread = set()
        for post, events in enumerate(posts):
            await inbox.take(*(replace(each, message_id=message) for each in events))
            unread |= {(post, index) for index in range(len(events))} & missed
        bodies = list(inbox.webhooks)
        with pytest.MonkeyPatch.context() as patch:
            places = {body: number for number, body in enumerate(bodies)}

            def yesterday(_: object, body: bytes, headers: object) -> Reading:
                found = list(enumerate(inbox.webhooks[body]))  # noqa: B023 - called within the turn
                gone = {index for index, _ in found if (places[body], index) in unread}  # noqa: B023
                return Reading(
                    [replace(each, place=index) for index, each in found if index not in gone],
                    [Unreadable(index, "not yet") for index in gone],
                )

            patch.setattr(READ, yesterday)
            await inbox.apply(batch=data.draw(st.integers(1, 5)))
            patch.setattr(READ, inbox.reading())
            await inbox.replay(YESTERDAY, page=data.draw(st.integers(1, 5)))
            assert (await inbox.replay(YESTERDAY)).added == 0
            before = await inbox.evidence(message)
            # And a later program's keys show nothing twice.
            patch.setattr(READ, inbox.reading(rekeyed))
            assert (await inbox.replay(TODAY, page=data.draw(st.integers(1, 5)))).added == 0
        evidence = [(*row[:3], *row[4:]) for row in before]
        sums = replace(await inbox.sums(message), id=MessageId(uuid7(NOON)), account_id=None)
        told.append((evidence, replace(sums, id=None)))
    assert told[0] == told[1]


async def test_several_replays_at_once_add_everything_once(
    inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading(lambda _: None))
    for minute in range(30):
        await inbox.take(*(event(EventKind.OPENED, message, minute=minute, key=f"{minute}/{n}") for n in range(3)))
    await inbox.apply()
    monkeypatch.setattr(READ, inbox.reading(rekeyed))
    reports = await asyncio.gather(*(inbox.replay(TODAY + number, page=7) for number in range(4)))
    assert sum(report.added for report in reports) == 90
    assert len(await inbox.evidence(message)) == 90


class TestAfterAnUpgrade:
    async def test_what_could_not_be_read_is_read_again_once_by_each_reader(
        self, inbox: Inbox, message: MessageId, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[bytes] = []

        def fail(_: object, body: bytes, headers: object) -> Reading:
            asked.append(body)
            raise RuntimeError("against its contract")

        monkeypatch.setattr(READ, fail)
        await inbox.take(event(EventKind.DELIVERED, message))
        await inbox.apply(YESTERDAY)
        for reader, count in ((YESTERDAY, 0), (TODAY, 1), (TODAY, 0), (YESTERDAY, 0), (3, 1)):
            asked.clear()
            applier = Applier(inbox.database, OWN_SEALER, inbox.hurry, reader=reader)
            assert (await applier.put_back_unreadable(), len(asked)) == (count, count)
        monkeypatch.setattr(READ, inbox.reading())
        assert await Applier(inbox.database, OWN_SEALER, inbox.hurry, reader=4, batch=1).put_back_unreadable() == 1
        assert (await inbox.sums(message)).verdict.name == "DELIVERED"
        assert await Applier(inbox.database, OWN_SEALER, inbox.hurry, reader=5).put_back_unreadable() == 0

    async def test_a_worker_of_the_new_program_does_it_without_being_asked(
        self, stack: Stack, practice: Practice, applier: Applier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> Reading:
            raise RuntimeError("against its contract")

        api = await stack.api()
        hook = await sendgrid_hook(stack, practice, api)
        patient = await make_patient(stack.database, practice)
        [message] = await make_messages(stack.database, practice, patient, hook.account, 1)
        async with stack.database.tenant(practice.id) as connection:
            await connection.execute("UPDATE message SET due_at = NULL")
        monkeypatch.setattr(READ, fail)
        old = Applier(stack.database, OWN_SEALER, applier._jobs, reader=YESTERDAY)
        async with httpx2.AsyncClient() as http:
            assert await hook.post(http, [sendgrid_event("delivered", message)]) == 200
        assert await old.apply_pending() == 1
        monkeypatch.undo()
        await stack.worker()
        client = await stack.client(api, practice)
        question = "query ($id: ID!) { message(id: $id) { status events { nodes { kind source } } } }"

        async def status() -> bool:
            found = (await client(question, id=global_id("Message", message)))["message"]
            return bool(
                found["status"] == "DELIVERED" and {"kind": "DELIVERED", "source": "REPLAY"} in found["events"]["nodes"]
            )

        await until(status)


DELIVERIES = """query ($filter: WebhookDeliveryFilter, $first: Int!, $after: String) {
  webhookDeliveries(filter: $filter, first: $first, after: $after) {
    nodes { id provider state receivedAt appliedAt events unmatched error size account { id name } }
    pageInfo { hasNextPage endCursor }
  }
}"""
REPLAY = """mutation ($input: ReplayWebhookDeliveryInput!) {
  replayWebhookDelivery(input: $input) { delivery { id state error } errors { field code } }
}"""


class TestAnAdministrator:
    async def test_sees_what_failed_with_its_place_and_has_it_read_again(
        self, stack: Stack, practice: Practice, applier: Applier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api = await stack.api()
        hook = await sendgrid_hook(stack, practice, api)
        patient = await make_patient(stack.database, practice)
        message = await make_message(stack.database, practice, patient, hook.account)
        good, bad = sendgrid_event("open", message), {**sendgrid_event("delivered", message), "timestamp": "noon"}
        async with httpx2.AsyncClient() as http:
            assert await hook.post(http, [good, bad]) == 200
            assert await hook.post(http, [good]) == 200
        await applier.apply_pending()
        client = await stack.client(api, practice, Role.ADMIN)
        page = (await client(DELIVERIES, first=1, filter=None, after=None))["webhookDeliveries"]
        assert [node["error"] for node in page["nodes"]] == [None]
        assert page["pageInfo"]["hasNextPage"] is True
        after = page["pageInfo"]["endCursor"]
        page = (await client(DELIVERIES, first=1, filter=None, after=after))["webhookDeliveries"]
        [node] = page["nodes"]
        assert page["pageInfo"]["hasNextPage"] is False
        assert (node["state"], node["events"], node["unmatched"], node["error"]) == (
            "APPLIED", 1, 0, "event 1: its time is no number of seconds",
        )  # fmt: skip
        assert node["account"]["id"] == global_id("SendingAccount", hook.account.id)
        failed = (await client(DELIVERIES, first=5, filter={"failed": True}))["webhookDeliveries"]["nodes"]
        assert [each["id"] for each in failed] == [node["id"]]
        for wanted, count in (
            ({"state": "UNREADABLE"}, 0),
            ({"state": "APPLIED", "failed": False}, 1),
            ({"accountId": global_id("SendingAccount", hook.account.id)}, 2),
            ({"accountId": "nobody"}, 0),
            ({"from": "2100-01-01T00:00:00Z"}, 0),
            ({"to": "2100-01-01T00:00:00Z"}, 2),
        ):
            found = (await client(DELIVERIES, first=5, filter=wanted))["webhookDeliveries"]["nodes"]
            assert len(found) == count, wanted
        monkeypatch.setattr("mail.providers.reading.epoch_time", lambda _: NOON)
        answer = (await client(REPLAY, input={"deliveryId": node["id"]}))["replayWebhookDelivery"]
        assert answer == {
            "delivery": {"id": node["id"], "state": "PENDING", "error": "event 1: its time is no number of seconds"},
            "errors": [],
        }
        await applier.apply_pending()
        found = await client(
            "query ($id: ID!) { node(id: $id) { ... on WebhookDelivery { state error } } }", id=node["id"]
        )
        assert found == {"node": {"state": "APPLIED", "error": None}}
        question = "query ($id: ID!) { message(id: $id) { deliveredAt } }"
        found = await client(question, id=global_id("Message", message))
        assert found == {"message": {"deliveredAt": "2026-03-02T12:00:00+00:00"}}
        async with stack.database.tenant(practice.id) as connection:
            deeds = await connection.fetch("SELECT subject, action, object_kind FROM audit_entry")
        assert [tuple(deed) for deed in deeds] == [("somebody", "replayWebhookDelivery", "WebhookDelivery")]

    @pytest.mark.parametrize("role", [Role.STAFF, Role.AUDITOR])
    async def test_alone_sees_webhooks(self, stack: Stack, inbox: Inbox, role: Role) -> None:
        delivery = global_id("WebhookDelivery", await inbox.take())
        api = await stack.api()
        client = await stack.client(api, inbox.practice, role)
        for query, variables in ((DELIVERIES, {"first": 5}), (REPLAY, {"input": {"deliveryId": delivery}})):
            answer = await client.raw(query, **variables)
            assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
        assert await client("query ($id: ID!) { node(id: $id) { id } }", id=delivery) == {"node": None}
        async with inbox.database.tenant(inbox.practice.id) as connection:
            assert await connection.fetchval("SELECT count(*) FROM audit_entry") == 0

    async def test_sees_no_content(self, stack: Stack, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
        api = await stack.api()
        hook = await sendgrid_hook(stack, inbox.practice, api)
        async with httpx2.AsyncClient() as http:
            assert await hook.post(http, b'{"canary@mail.example": NaN') == 200
        await Applier(stack.database, OWN_SEALER, inbox.hurry).apply_pending()
        client = await stack.client(api, inbox.practice, Role.ADMIN)
        found = await client(DELIVERIES, first=5)
        assert "canary" not in str(found)
        assert [(node["state"], node["size"]) for node in found["webhookDeliveries"]["nodes"]] == [("UNREADABLE", 27)]


async def test_the_metrics_count_parked_events(stack: Stack, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(READ, inbox.reading())
    await inbox.take(
        event(EventKind.OPENED, provider_message_id="x"), event(EventKind.CLICKED, provider_message_id="x")
    )
    await inbox.apply()
    async with httpx2.AsyncClient(base_url=await stack.api()) as http:
        assert 'carepost_events_parked{provider="sendgrid"} 2.0' in (await http.get("/metrics")).text
