"""When to try again, and when to give up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.retry import FIRST_DELAY, GIVE_UP_AFTER, LONGEST_DELAY, next_attempt

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "chance", "seconds"),
    [(1, 0.0, 2.5), (1, 0.5, 3.75), (2, 0.0, 5), (3, 0.0, 10), (10, 0.0, 1280), (11, 0.0, 1800), (99, 0.0, 1800)],
)
def test_each_delay_doubles_the_last_up_to_an_hour(attempt: int, chance: float, seconds: float) -> None:
    assert next_attempt(attempt, START, START, chance) == START + timedelta(seconds=seconds)


@given(st.integers(1, 10_000), chances)
def test_the_delay_lies_in_the_upper_half_of_its_step(attempt: int, chance: float) -> None:
    due = next_attempt(attempt, START, START, chance)
    assert due is not None
    step = min(FIRST_DELAY * 2 ** min(attempt - 1, 10), LONGEST_DELAY)
    assert step / 2 <= due - START <= step


@given(st.integers(1, 100), chances, st.timedeltas(timedelta(), timedelta(hours=60)))
def test_no_attempt_is_due_later_than_48_hours_after_the_first(attempt: int, chance: float, elapsed: timedelta) -> None:
    due = next_attempt(attempt, START, START + elapsed, chance)
    assert due is None or START + elapsed < due <= START + timedelta(hours=48)
    if elapsed >= GIVE_UP_AFTER:
        assert due is None
    if elapsed + LONGEST_DELAY <= GIVE_UP_AFTER:
        assert due is not None


def test_the_last_moment_is_48_hours_after_the_first() -> None:
    assert timedelta(hours=48) == GIVE_UP_AFTER
    last = START + timedelta(hours=48)
    assert next_attempt(1, START, last - timedelta(seconds=2.5), 0.0) == last
    assert next_attempt(1, START, last - timedelta(seconds=2.499999), 0.0) is None


def test_the_server_is_asked_no_sooner_than_it_wished_within_six_hours() -> None:
    assert next_attempt(1, START, START, 0.0, timedelta(minutes=10)) == START + timedelta(minutes=10)
    assert next_attempt(1, START, START, 0.0, timedelta(days=30)) == START + timedelta(hours=6)
    assert next_attempt(11, START, START, 0.0, timedelta(seconds=1)) == START + timedelta(minutes=30)
    assert next_attempt(1, START, START, 0.0, timedelta(seconds=-5)) == START + timedelta(seconds=2.5)


def test_a_wish_beyond_the_48_hours_ends_it() -> None:
    assert next_attempt(50, START, START + timedelta(hours=43), 0.0, timedelta(hours=6)) is None


def test_the_attempts_of_48_hours_are_bounded() -> None:
    now, attempt = START, 0
    while True:
        attempt += 1
        due = next_attempt(attempt, START, now, 0.0)
        if due is None:
            break
        now = due
    assert attempt == 105
    assert now > START + timedelta(hours=47)
