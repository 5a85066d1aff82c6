"""New identifiers are in the order of time, and a floor lies below every one of its time."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st

from db.ids import uuid7, uuid_floor

times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
NIGHT = datetime(2026, 3, 1, tzinfo=UTC)


@given(times)
@example(datetime(2026, 5, 28, 20, 26, 40, 1000, tzinfo=UTC))
def test_an_id_begins_with_its_millisecond_and_is_of_version_7(at: datetime) -> None:
    made = uuid7(at)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@given(times, st.timedeltas(timedelta(), timedelta(days=1)))
def test_a_floor_is_not_greater_than_any_id_of_its_time_or_later(at: datetime, later: timedelta) -> None:
    assert uuid_floor(at) <= uuid7(at + later)


@given(times)
def test_a_floor_is_greater_than_any_id_of_the_millisecond_before(at: datetime) -> None:
    assert uuid_floor(at + timedelta(milliseconds=1)) > uuid7(at)


def test_an_id_is_the_same_instant_in_every_zone() -> None:
    east = datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=14)))
    assert uuid_floor(east) == uuid_floor(NIGHT)
    assert str(uuid_floor(NIGHT)) == "019ca6b1-dc00-0000-0000-000000000000"


def test_two_ids_of_one_time_differ() -> None:
    assert len({uuid7(NIGHT) for _ in range(1000)}) == 1000
