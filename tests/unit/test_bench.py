"""The benchmarks' own arithmetic: what they compare, what makes them fail, what they draw."""

from xml.etree import ElementTree as ET

import pytest

from bench import rounds
from bench.figures import Benchmark, Column, Goal, Row
from bench.load import Load, Measured
from bench.picture import draw
from bench.processes import Server
from bench.rounds import Contender, run_rounds

RATE = (Column("rate", "per second"),)


def benchmark(ours: list[float], theirs: list[float], *, less_is_better: bool = False) -> Benchmark:
    rows = [Row("Carepost", [{"rate": rate} for rate in ours]), Row("A peer", [{"rate": rate} for rate in theirs])]
    return Benchmark("tab", "A & B", rows, "A peer", RATE, [Goal(2, "A peer")], less_is_better)


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds() -> None:
    # The medians are 300 and 100; round by round it was 3, 2 and 10 times.
    found = benchmark([300, 200, 1000], [100, 100, 100])
    slowed = benchmark([300, 200, 1000], [150, 100, 1000])
    assert found.ratio(found.rows[0]) == 3
    assert slowed.ratio(slowed.rows[0]) == 2


def test_where_less_is_better_half_is_twice_as_good() -> None:
    found = benchmark([5, 5], [10, 10], less_is_better=True)
    assert found.ratio(found.rows[0]) == 2


def test_a_goal_that_is_missed_says_so() -> None:
    assert [enough for _, _, enough in benchmark([199], [100]).judged()] == [False]
    assert [enough for _, _, enough in benchmark([200], [100]).judged()] == [True]


def test_the_picture_is_xml_for_light_and_dark_with_every_contender() -> None:
    picture = draw([benchmark([300, 200], [100, 100])], "a caption")
    ET.fromstring(picture)
    assert "prefers-color-scheme: dark" in picture
    texts = [text.text for text in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["a caption", "A & B", "per second, more is better", "Carepost", "250", "A peer", "100"]


@pytest.mark.parametrize(
    ("bad", "kept", "wrong"),
    [
        (0, 50, []),
        (0, 49, ["Carepost answered 50 and kept 49"]),
        (3, 50, ["Carepost: 3 wrong answers"]),
    ],
)
async def test_a_round_is_wrong_when_an_answer_is_or_a_row_is_missing(
    monkeypatch: pytest.MonkeyPatch, bad: int, kept: int, wrong: list[str]
) -> None:
    async def put_load(server: Server, load: Load, postgres_pid: int) -> Measured:
        return Measured(seconds=1, answered=50, p50=1, p99=2, good=50, bad=bad, bytes_each=10)

    counted = iter([100, 100 + kept])

    async def count() -> int:
        return next(counted)

    monkeypatch.setattr(rounds, "put_load", put_load)
    contender = Contender("Carepost", [Server("Carepost", 1, 1)], Load([], 1, 1, 0), stores=True)
    found = await run_rounds(Benchmark("webhook", "A webhook", (), "Carepost", RATE), [contender], 1, 1, count)
    assert found.wrong == wrong
    assert [row.values("rate") for row in found.rows] == [[50]]
