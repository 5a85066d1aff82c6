"""When a server is left alone, and when it is tried again."""

from datetime import timedelta

import pytest

from workers.breaker import FAILURES, Breaker


def broken(now: float = 100.0, failures: int = FAILURES) -> Breaker:
    breaker = Breaker()
    for _ in range(failures):
        breaker.failed(max(now, breaker.until), chance=0.0)
    return breaker


def test_fewer_failures_than_the_limit_change_nothing() -> None:
    breaker = broken(failures=FAILURES - 1)
    assert (breaker.is_open, breaker.until) == (False, 0.0)


def test_an_answer_between_them_begins_the_count_anew() -> None:
    breaker = broken(failures=FAILURES - 1)
    breaker.answered()
    breaker.failed(100.0, 0.0)
    assert not breaker.is_open


def test_the_third_failure_in_a_row_leaves_the_server_alone_and_an_answer_ends_that() -> None:
    breaker = broken()
    assert (breaker.is_open, breaker.until) == (True, 102.5)
    breaker.answered()
    assert not breaker.is_open


@pytest.mark.parametrize(("probes", "wait"), [(0, 2.5), (1, 5.0), (2, 10.0), (20, 150.0)])
def test_each_probe_that_fails_doubles_the_wait_up_to_five_minutes(probes: int, wait: float) -> None:
    breaker = broken()
    for _ in range(probes):
        now = breaker.until
        breaker.failed(now, chance=0.0)
    assert breaker.until - (now if probes else 100.0) == wait


def test_attempts_that_were_under_way_when_it_opened_are_not_counted_as_probes() -> None:
    breaker = broken()
    for _ in range(5):
        breaker.failed(101.0, chance=0.9)
    assert breaker.until == 102.5


def test_after_a_message_that_is_given_up_the_next_one_is_tried_at_once() -> None:
    breaker = broken()
    breaker.failed(103.0, chance=0.0, over=True)
    assert (breaker.is_open, breaker.until) == (True, 102.5)


def test_a_server_that_asks_to_wait_gets_half_as_many_and_slowly_more_again() -> None:
    breaker = Breaker()
    breaker.asked_to_wait(100.0, timedelta(seconds=7), 8)
    assert (breaker.until, breaker.most, breaker.is_open) == (107.0, 4, False)
    breaker.asked_to_wait(100.0, timedelta(seconds=1), 8)
    assert (breaker.until, breaker.most) == (107.0, 2)
    seen = []
    for _ in range(60):
        breaker.answered()
        seen.append(breaker.most)
    assert seen[::10] == [2, 3, 4, 5, 6, 7]
    assert seen[-1] is None
