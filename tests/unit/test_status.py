"""The rule of the status: the greatest verdict under a ceiling, whatever the order and however often."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import permutations, product
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mail.event import Event, EventKind, verdict_of
from mail.status import (
    DEFAULT_TRACKING_START,
    AccountKind,
    MessageStatus,
    Verdict,
    ceiling,
    status,
    status_of,
    tracked_from,
)

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ZONES = sorted(available_timezones() - {"localtime"})

verdicts = st.sampled_from(Verdict)
limits = st.sampled_from([Verdict.SENT, Verdict.RETURNED])
events = st.builds(
    Event,
    kind=st.sampled_from(EventKind),
    occurred_at=st.just(MOMENT),
    dedupe_key=st.text(max_size=3),
    machine=st.booleans(),
)


def status_by(history: list[Event], limit: Verdict = Verdict.RETURNED) -> MessageStatus:
    return status((event.verdict for event in history), limit)


SHOWN = {
    Verdict.QUEUED: MessageStatus.QUEUED,
    Verdict.CANCELLED: MessageStatus.CANCELLED,
    Verdict.FAILED: MessageStatus.FAILED,
    Verdict.SENT: MessageStatus.SENT,
    Verdict.RETURNED_SOFT: MessageStatus.NOT_DELIVERED,
    Verdict.DELIVERED: MessageStatus.DELIVERED,
    Verdict.OPENED: MessageStatus.OPENED,
    Verdict.RETURNED: MessageStatus.NOT_DELIVERED,
}


def test_the_verdicts_stand_in_the_order_of_the_rule() -> None:
    assert [verdict.sql_name for verdict in sorted(Verdict)] == [
        "queued",
        "cancelled",
        "failed",
        "sent",
        "returned_soft",
        "delivered",
        "opened",
        "returned",
    ]


def test_each_verdict_shows_as_its_status() -> None:
    assert {verdict: status_of(verdict) for verdict in Verdict} == SHOWN


def test_under_the_ceiling_sent_everything_above_shows_as_sent() -> None:
    assert {verdict: status_of(verdict, Verdict.SENT) for verdict in Verdict} == {
        verdict: shown if verdict <= Verdict.SENT else MessageStatus.SENT for verdict, shown in SHOWN.items()
    }


def test_the_page_shows_the_labels_of_the_design() -> None:
    assert {shown.name: shown.label for shown in MessageStatus} == {
        "QUEUED": "Queued",
        "CANCELLED": "Cancelled",
        "FAILED": "Not sent",
        "SENT": "Sent",
        "DELIVERED": "Delivered",
        "OPENED": "Opened",
        "NOT_DELIVERED": "Not delivered",
    }


def test_no_evidence_at_all_is_queued() -> None:
    assert status([]) is MessageStatus.QUEUED


def test_every_sequence_of_four_verdicts_has_the_status_of_its_set() -> None:
    for sequence in product(Verdict, repeat=4):
        for limit in (Verdict.SENT, Verdict.RETURNED):
            assert status(sequence, limit) is status(set(sequence), limit), sequence


@given(st.lists(events, max_size=5), limits)
def test_every_permutation_of_a_history_gives_one_status(history: list[Event], limit: Verdict) -> None:
    assert {status_by(list(order), limit) for order in permutations(history)} == {status_by(history, limit)}


@given(st.data(), st.lists(events, min_size=1, max_size=12), limits)
def test_repetitions_in_any_order_change_nothing(data: st.DataObject, history: list[Event], limit: Verdict) -> None:
    repeats = data.draw(st.lists(st.sampled_from(history), max_size=20))
    shuffled = data.draw(st.permutations(history + repeats))
    assert status_by(shuffled, limit) is status_by(history, limit)


@given(st.lists(st.lists(verdicts, max_size=6), min_size=1, max_size=6))
def test_histories_may_be_summed_up_in_parts_and_the_sums_again(parts: list[list[Verdict]]) -> None:
    sums = [max(part, default=Verdict.QUEUED) for part in parts]
    assert status(sums) is status([verdict for part in parts for verdict in part])


@given(st.data(), st.lists(events, max_size=12), limits)
def test_a_status_never_falls_as_evidence_comes(data: st.DataObject, history: list[Event], limit: Verdict) -> None:
    known = data.draw(st.lists(st.sampled_from(history), unique_by=id) if history else st.just([]))
    before = max((event.verdict for event in known), default=Verdict.QUEUED)
    after = max((event.verdict for event in history), default=Verdict.QUEUED)
    assert min(before, limit) <= min(after, limit)
    assert status_by(known + history, limit) is status_of(after, limit)


@given(st.lists(verdicts, max_size=8))
def test_the_ceiling_hides_and_keeps(history: list[Verdict]) -> None:
    capped = status(history, Verdict.SENT)
    assert capped in {MessageStatus.QUEUED, MessageStatus.CANCELLED, MessageStatus.FAILED, MessageStatus.SENT}
    assert capped is status([min(verdict, Verdict.SENT) for verdict in history])


def test_a_return_for_good_outranks_an_open_and_a_soft_one_does_not() -> None:
    assert status([Verdict.OPENED, Verdict.RETURNED]) is MessageStatus.NOT_DELIVERED
    assert status([Verdict.RETURNED_SOFT, Verdict.DELIVERED]) is MessageStatus.DELIVERED
    assert status([Verdict.RETURNED_SOFT, Verdict.OPENED]) is MessageStatus.OPENED
    assert status([Verdict.SENT, Verdict.RETURNED_SOFT]) is MessageStatus.NOT_DELIVERED


@pytest.mark.parametrize("machine", [False, True])
@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_of_event_has_a_verdict(kind: EventKind, machine: bool) -> None:
    by_verdict = {
        Verdict.QUEUED: "AUTO_REPLIED RESUBSCRIBED ATTEMPT_DEFERRED ATTEMPT_AMBIGUOUS UNKNOWN",
        Verdict.CANCELLED: "CANCELLED",
        Verdict.FAILED: "FAILED",
        Verdict.SENT: "QUEUED ACCEPTED DEFERRED",
        Verdict.RETURNED_SOFT: "SOFT_BOUNCED",
        Verdict.DELIVERED: "DELIVERED COMPLAINED UNSUBSCRIBED",
        Verdict.OPENED: "OPENED CLICKED",
        Verdict.RETURNED: "BOUNCED REJECTED",
    }
    expected = {name: verdict for verdict, names in by_verdict.items() for name in names.split()}
    said = expected[kind.name]
    assert verdict_of(kind, machine=machine) is (Verdict.QUEUED if machine and said is Verdict.OPENED else said)


@pytest.mark.parametrize(
    ("kind", "sent", "limit"),
    [
        (AccountKind.ESP, timedelta(), Verdict.RETURNED),
        (AccountKind.ESP, timedelta(days=900), Verdict.RETURNED),
        (AccountKind.ESP, timedelta(microseconds=-1), Verdict.SENT),
        (AccountKind.GMAIL, timedelta(days=900), Verdict.SENT),
        (AccountKind.SMTP, timedelta(days=900), Verdict.SENT),
        (AccountKind.SMTP, timedelta(days=-1), Verdict.SENT),
    ],
)
def test_only_an_esp_after_the_tracking_start_tells_more_than_sent(
    kind: AccountKind, sent: timedelta, limit: Verdict
) -> None:
    assert ceiling(kind, MOMENT + sent, MOMENT) is limit


def test_tracking_starts_on_23_july_2019_unless_told_otherwise() -> None:
    assert date(2019, 7, 23) == DEFAULT_TRACKING_START


@pytest.mark.parametrize(
    ("zone", "day", "first"),
    [
        ("UTC", "2019-07-23", "2019-07-24T00:00"),
        ("Europe/Berlin", "2019-07-23", "2019-07-23T22:00"),
        ("America/New_York", "2019-07-23", "2019-07-24T04:00"),
        ("Pacific/Kiritimati", "2019-07-23", "2019-07-23T10:00"),
        ("Pacific/Pago_Pago", "2019-07-23", "2019-07-24T11:00"),
        ("Asia/Kathmandu", "2019-07-23", "2019-07-23T18:15"),
        ("Australia/Lord_Howe", "2019-07-23", "2019-07-23T13:30"),
        # The day before and the day of both changes of the clock.
        ("Europe/Berlin", "2019-03-30", "2019-03-30T23:00"),
        ("Europe/Berlin", "2019-03-31", "2019-03-31T22:00"),
        ("Europe/Berlin", "2019-10-26", "2019-10-26T22:00"),
        ("Europe/Berlin", "2019-10-27", "2019-10-27T23:00"),
        # Midnight doesn't exist: 00:00 became 01:00.
        ("America/Sao_Paulo", "2018-11-03", "2018-11-04T03:00"),
        # The whole day after doesn't exist: Samoa went over the date line.
        ("Pacific/Apia", "2011-12-29", "2011-12-30T10:00"),
        # Midnight comes twice: 01:00 became 00:00, so both are on the day after.
        ("America/Havana", "2018-11-03", "2018-11-04T04:00"),
        # Midnight comes twice: 00:01 became 23:01 of the day itself.
        ("America/St_Johns", "2010-11-06", "2010-11-07T03:30"),
    ],
)
def test_tracking_begins_with_the_midnight_after_the_start_in_the_practices_zone(
    zone: str, day: str, first: str
) -> None:
    assert tracked_from(date.fromisoformat(day), ZoneInfo(zone)) == datetime.fromisoformat(first).replace(tzinfo=UTC)


@given(
    st.sampled_from(ZONES),
    st.dates(date(2000, 1, 1), date(2037, 1, 1)),
    st.timedeltas(timedelta(hours=-72), timedelta(hours=72)),
)
@example("America/St_Johns", date(2010, 11, 6), timedelta(minutes=-1))
@example("America/Havana", date(2018, 11, 3), timedelta(minutes=1))
@example("Antarctica/Casey", date(2010, 3, 4), timedelta(minutes=-1))
@example("Pacific/Apia", date(2011, 12, 29), timedelta(minutes=-1))
def test_no_message_of_the_day_itself_is_tracked_and_all_of_the_day_after_are(
    name: str, day: date, away: timedelta
) -> None:
    zone = ZoneInfo(name)
    first = tracked_from(day, zone)
    sent_at = first + away
    local = sent_at.astimezone(zone).date()
    if ceiling(AccountKind.ESP, sent_at, first) is Verdict.RETURNED:
        assert local > day
    else:
        midnight = datetime.combine(day + timedelta(days=1), time(), zone)
        twice = midnight.utcoffset() != midnight.replace(fold=1).utcoffset()
        assert local <= day or twice
