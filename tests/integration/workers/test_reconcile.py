"""Messages that no webhook answered for are asked about: at the ESP's pace, by one worker each, and never twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from starlette.responses import JSONResponse
from structlog.testing import capture_logs

from api.addresses import webhook_url
from api.graphql.ids import global_id
from db import asking
from db.asking import Window
from db.practices import Practice
from mail.event import EventKind
from mail.ids import MessageId
from mail.status import AccountKind
from tests.integration.api.hooks import postmark_delivery
from tests.integration.api.sockets import LiveClient
from tests.integration.workers.sending import OFTEN, Desk
from tests.integration.workers.vendor import TOKEN, Past, Vendor, vendor
from tests.support.databases import OWN_SEALER
from tests.support.practice import make_account
from tests.support.providers.sample import sign_basic
from tests.support.stack import LOOPBACK, Stack, token_for, until
from workers import jobs
from workers.ask import Asker, Halt, Tally
from workers.jobs import Jobs
from workers.reconcile import Reconciler
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Outgoing

HOUR = timedelta(hours=1)


@pytest.fixture
async def it() -> AsyncIterator[Vendor]:
    async with vendor() as running:
        yield running


@pytest.fixture
async def past(stack: Stack, practice: Practice, it: Vendor) -> Past:
    return await Past.of(stack, practice, it)


class Workers:
    """Reconcilers and askers without the rest of a worker."""

    def __init__(self, past: Past, http: HttpTransport, hurry: Jobs) -> None:
        self.past = past
        self.http = http
        self.hurry = hurry

    def reconciler(self) -> Reconciler:
        database = self.past.stack.database
        return Reconciler(
            database, OWN_SEALER, self.hurry, self.http, after=HOUR, look_every=timedelta(minutes=5), interval=OFTEN
        )

    async def look(self) -> None:
        """One look at the account, as if it were due."""
        async with self.past.stack.database.tenant(self.past.practice.id) as connection:
            await connection.execute("UPDATE sending_account SET look_at = now()")
        await self.reconciler().look_after(self.past.ref, asyncio.Event())

    async def ask(self, window: Window | None = None) -> Tally:
        now = datetime.now(UTC)
        asker = Asker(self.past.stack.database, self.hurry, self.http)
        async with self.past.stack.database.tenant(self.past.practice.id) as connection:
            look = await asking.open_look(connection, OWN_SEALER, self.past.ref)
        return await asker.ask_account(look, window or Window(now - 14 * 24 * HOUR, now - HOUR), asyncio.Event())


@pytest.fixture
async def workers(past: Past) -> AsyncIterator[Workers]:
    client = jobs.connect(past.stack.redis_url)
    async with HttpTransport(Outgoing(LOOPBACK)) as http:
        yield Workers(past, http, Jobs(client))
    await client.aclose(close_connection_pool=True)


async def test_what_no_webhook_told_is_found_by_asking_and_shown_live(past: Past, it: Vendor) -> None:
    message = await past.sent("pm-1")
    it.delivered("pm-1")
    api = await past.stack.api()
    async with LiveClient(api, token_for(past.practice)) as live:
        watching = await live.watch()
        await past.stack.worker(sweep_interval=OFTEN)
        change = await live.change(watching)
    assert change["message"] == {"id": global_id("Message", message), "status": "DELIVERED"}
    assert await past.events(message) == [("accepted", "attempt"), ("delivered", "poll")]
    assert it.asked == ["pm-1"]
    account = await past.account_row()
    assert (account["asked"], account["told"], account["not_told"]) == (1, 1, 0)
    assert account["told_at"] is not None
    assert account["last_event_at"] is None
    async with httpx2.AsyncClient(base_url=api) as http:
        metrics = (await http.get("/metrics")).text
    for line in (
        'carepost_accounts{provider="postmark"} 1.0',
        'carepost_accounts_heard{provider="postmark"} 0.0',
        'carepost_questions_total{provider="postmark"} 1.0',
        'carepost_questions_told_total{provider="postmark"} 1.0',
        'carepost_questions_not_told_total{provider="postmark"} 0.0',
    ):
        assert line in metrics.splitlines()


async def test_a_second_page_is_read_and_a_bounce_is_told_with_its_reply(
    workers: Workers, past: Past, it: Vendor
) -> None:
    message = await past.sent("pm-1")
    it.bounced("pm-1")
    await workers.look()
    row = await past.row(message)
    assert (row["verdict"], row["failure_enhanced_code"], row["failure_kind"]) == (
        "returned",
        "5.1.1",
        "address_unknown",
    )
    assert await past.events(message) == [("accepted", "attempt"), ("bounced", "poll")]


async def test_what_asking_told_and_a_late_webhook_tells_again_is_one_event(past: Past, it: Vendor) -> None:
    key = "883953f4-6105-42a2-a16a-77a8eac79483"
    message = await past.sent(key)
    it.delivered(key, "2026-03-02T12:00:00Z")
    secret = "carepost:8Zk2vQzT"
    await past.stack.point(past.practice, past.account, {"server_token": TOKEN, "base_url": it.url}, [secret])
    api = await past.stack.api()
    await past.stack.worker(sweep_interval=OFTEN)

    async def delivered() -> bool:
        return bool((await past.row(message))["verdict"] == "delivered")

    await until(delivered)
    url = webhook_url(api, "postmark", past.practice.id, past.account.id)
    async with httpx2.AsyncClient() as http:
        response = await http.post(url, json=postmark_delivery(message), headers=dict(sign_basic(b"", secret)))
    assert response.status_code == 200

    async def applied() -> bool:
        return (await past.account_row())["last_event_at"] is not None

    await until(applied)
    assert await past.events(message) == [("accepted", "attempt"), ("delivered", "poll")]


async def test_only_what_ought_to_have_been_answered_is_asked_about(workers: Workers, past: Past, it: Vendor) -> None:
    await past.sent("young", timedelta(minutes=59))
    await past.sent("old", timedelta(days=14, minutes=1))
    await past.sent("delivered", kinds=[EventKind.ACCEPTED, EventKind.DELIVERED])
    await past.sent("refused", kinds=[EventKind.FAILED])
    await past.sent("returned", kinds=[EventKind.ACCEPTED, EventKind.SOFT_BOUNCED])
    await past.sent("just-right", timedelta(minutes=61))
    await past.sent("put-off", timedelta(days=13, hours=23), kinds=[EventKind.ACCEPTED, EventKind.DEFERRED])
    nameless = await past.sent(None)
    own = Past(
        past.stack,
        past.practice,
        await make_account(past.stack.database, past.practice, AccountKind.SMTP),
        past.patient,
    )
    await own.sent("smtp")
    await workers.look()
    assert sorted(it.asked) == ["just-right", "put-off"]
    # It can't be asked about, so nothing is invented; it is looked at again later.
    assert (await past.row(nameless))["asks"] == 1
    assert (await past.account_row())["asked"] == 2


async def test_a_message_is_asked_about_again_after_growing_pauses(workers: Workers, past: Past, it: Vendor) -> None:
    message = await past.sent("unknown")
    pauses = []
    for _ in range(6):
        await workers.look()
        row = await past.row(message)
        pauses.append(round((row["ask_at"] - row["now"]) / HOUR))
        await workers.look()  # too early: nothing is asked
        async with past.stack.database.tenant(past.practice.id) as connection:
            await connection.execute("UPDATE message SET ask_at = now()")
    assert pauses == [1, 4, 24, 72, 72, 72]
    assert it.asked == ["unknown"] * 6
    assert (await past.row(message))["verdict"] == "sent"
    account = await past.account_row()
    assert (account["asked"], account["told"], account["not_told"]) == (6, 0, 6)


async def test_two_askers_share_the_messages_and_the_pace(workers: Workers, past: Past, it: Vendor) -> None:
    keys = [f"pm-{number}" for number in range(9)]
    for key in keys:
        await past.sent(key)
        it.delivered(key)
    tallies = await asyncio.gather(*(workers.ask() for _ in range(3)))
    assert Counter(it.asked) == Counter(keys)
    assert sum(tally.asked for tally in tallies) == 9
    assert sum(tally.changed for tally in tallies) == 9
    gaps = [later - earlier for earlier, later in zip(it.at, it.at[1:], strict=False)]
    # Five a second (Postmark): a request may be late, so its successor seems early.
    assert it.at[-1] - it.at[0] >= 8 * 0.2 - 0.1
    assert sum(gaps) / len(gaps) >= 0.18


async def test_what_a_killed_worker_had_in_hand_is_taken_up_when_its_lease_ends(
    workers: Workers, past: Past, it: Vendor
) -> None:
    message = await past.sent("pm-1")
    it.delivered("pm-1")
    now = datetime.now(UTC)
    window = Window(now - 24 * HOUR, now)
    database, practice = past.stack.database, past.practice

    async def claim(lease: timedelta) -> MessageId | None:
        async with database.tenant(practice.id) as connection:
            claimed = await asking.claim_question(connection, past.ref, window, lease)
        return claimed.question.message_id if claimed else None

    assert await claim(timedelta(milliseconds=400)) == message  # and the worker dies
    assert await claim(HOUR) is None
    assert (await workers.ask()).asked == 0

    async def taken_up() -> bool:
        return (await workers.ask()).asked == 1

    await until(taken_up)
    assert (await past.row(message))["verdict"] == "delivered"


async def test_an_account_that_a_worker_has_is_left_to_it_until_its_lease_ends(past: Past) -> None:
    async def begin(lease: timedelta) -> bool:
        async with past.stack.database.tenant(past.practice.id) as connection:
            return await asking.begin_look(connection, OWN_SEALER, past.ref, lease) is not None

    assert await begin(timedelta(milliseconds=300))
    assert not await begin(HOUR)
    await until(lambda: begin(HOUR))
    assert not await begin(HOUR)


async def test_an_esp_that_asks_to_wait_is_left_alone_for_so_long(workers: Workers, past: Past, it: Vendor) -> None:
    for number in range(3):
        await past.sent(f"pm-{number}")
    it.instead = lambda: JSONResponse({}, 429, {"retry-after": "1800"})
    tally = await workers.ask()
    assert (tally.asked, tally.halt) == (1, Halt.WAIT)
    row = await past.account_row()
    assert timedelta(minutes=29) < row["ask_at"] - row["now"] <= timedelta(minutes=30)
    it.instead = None
    tally = await workers.ask()
    assert (tally.asked, tally.halt) == (0, Halt.WAIT)
    assert len(it.asked) == 1


async def test_a_refused_key_ends_the_asking_until_the_credentials_change(
    workers: Workers, past: Past, it: Vendor
) -> None:
    message, other = await past.sent("pm-1"), await past.sent("pm-2")
    for key in ("pm-1", "pm-2"):
        it.delivered(key)
    it.token = "another"
    await workers.look()
    assert len(it.asked) == 1
    row = await past.account_row()
    assert timedelta(hours=23) < row["ask_at"] - row["now"] <= timedelta(days=1)
    assert row["asking_refused_at"] is not None
    api = await past.stack.api()
    codes = [each["code"] for each in (await past.health(api, "advice { code }"))["advice"]]
    assert codes == ["KEY_REFUSED", "WEBHOOK_NEVER_HEARD", "ASKING_REFUSED"]
    await workers.look()
    assert len(it.asked) == 1
    await past.stack.point(past.practice, past.account, {"server_token": "another", "base_url": it.url}, [])
    await workers.look()
    async with past.stack.database.tenant(past.practice.id) as connection:
        await connection.execute("UPDATE message SET ask_at = now()")
    await workers.look()
    assert {(await past.row(each))["verdict"] for each in (message, other)} == {"delivered"}
    assert (await past.account_row())["asking_refused_at"] is None


async def test_a_refusal_of_a_key_that_was_replaced_meanwhile_says_nothing(
    workers: Workers, past: Past, it: Vendor
) -> None:
    await past.sent("pm-1")
    it.hold = asyncio.Event()
    it.token = "another"
    asking_now = asyncio.create_task(workers.ask())

    async def asked() -> bool:
        return bool(it.asked)

    await until(asked)
    await past.stack.point(past.practice, past.account, {"server_token": "another", "base_url": it.url}, [])
    it.hold.set()
    assert (await asking_now).halt is Halt.REFUSED
    row = await past.account_row()
    assert row["asking_refused_at"] is None
    assert row["ask_at"] - row["now"] < timedelta(minutes=1)


async def test_an_esp_that_cannot_be_reached_is_tried_again_later(workers: Workers, past: Past, it: Vendor) -> None:
    message = await past.sent("pm-1")
    await past.stack.point(past.practice, past.account, {"server_token": TOKEN, "base_url": "http://127.0.0.1:1"}, [])
    tally = await workers.ask()
    assert (tally.asked, tally.told, tally.halt) == (1, 0, Halt.WAIT)
    row = await past.account_row()
    assert row["ask_at"] - row["now"] > timedelta(seconds=50)
    assert (await past.row(message))["verdict"] == "sent"


async def test_a_slow_esp_does_not_delay_sending(desk: Desk, past: Past, it: Vendor) -> None:
    await past.sent("pm-1")
    it.hold = asyncio.Event()
    account, _ = await desk.stack.smtp(desk.practice)
    await desk.stack.worker(sweep_interval=OFTEN)

    async def asked() -> bool:
        return bool(it.asked)

    await until(asked)
    await desk.reaches(await desk.write(account), "SENT")
    it.hold.set()


async def test_a_key_is_checked_once_a_day_and_its_end_is_known(
    workers: Workers, past: Past, it: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workers.look()
    await workers.look()
    assert it.checked == 1
    api = await past.stack.api()
    fields = "credentialsCheckedAt credentialsOk credentialsExpireAt advice { code severity }"
    health = await past.health(api, fields)
    assert (health["credentialsOk"], health["credentialsExpireAt"]) == (True, None)
    assert health["advice"] == [{"code": "OK", "severity": "OK"}]
    async with past.stack.database.tenant(past.practice.id) as connection:
        await connection.execute("UPDATE sending_account SET credentials_checked_at = now() - interval '25 hours'")
    it.token = "another"
    await workers.look()
    assert it.checked == 2
    health = await past.health(api, fields)
    assert health["credentialsOk"] is False
    assert health["advice"] == [{"code": "KEY_REFUSED", "severity": "PROBLEM"}]
    # What says nothing of the key leaves nothing behind but the time.
    async with past.stack.database.tenant(past.practice.id) as connection:
        await connection.execute(
            "UPDATE sending_account SET credentials_checked_at = now() - interval '25 hours', "
            "credentials_expire_at = now() + interval '5 days'"
        )
    it.instead = lambda: JSONResponse({}, 503)
    await workers.look()
    health = await past.health(api, fields)
    assert health["credentialsOk"] is None
    assert health["advice"] == [{"code": "KEY_EXPIRES_SOON", "severity": "WARNING"}]


async def test_an_account_without_its_key_is_not_asked_about_and_says_what_is_missing(
    workers: Workers, past: Past, it: Vendor
) -> None:
    await past.sent("pm-1")
    await past.stack.point(past.practice, past.account, {"base_url": it.url}, [])
    with capture_logs() as logs:
        await workers.look()
    assert logs == []
    assert it.at == []
    assert (await workers.ask()).halt is Halt.INCOMPLETE
    assert it.at == []
    api = await past.stack.api()
    health = await past.health(api, "credentialsOk advice { code severity text }")
    assert health["credentialsOk"] is False
    advice = health["advice"][0]
    assert (advice["code"], advice["severity"]) == ("KEY_REFUSED", "PROBLEM")
    assert advice["text"] == "The account's credentials are incomplete. Enter the Server API token."
    row = await past.account_row()
    assert row["look_at"] - row["now"] > HOUR
    await past.stack.point(past.practice, past.account, {"server_token": TOKEN, "base_url": it.url}, [])
    await workers.reconciler().look_after(past.ref, asyncio.Event())
    assert it.asked == ["pm-1"]
    assert (await past.health(api, "credentialsOk"))["credentialsOk"] is True
