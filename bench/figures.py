"""What a benchmark gives: rounds of figures for each contender, compared within the rounds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of every round, shown as its median, or as the sum of the rounds."""

    key: str
    heading: str
    digits: int = 0
    total: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One contender; `rounds` hold its figures, the first round the first that was measured."""

    name: str
    rounds: Sequence[Mapping[str, float]]

    def values(self, key: str) -> Sequence[float]:
        return [figures[key] for figures in self.rounds if key in figures]

    def shown(self, column: Column) -> float | None:
        """What the table says; None where the contender has no such figure."""
        values = self.values(column.key)
        if not values:
            return None
        return sum(values) if column.total else statistics.median(values)


@dataclass(frozen=True, slots=True)
class Goal:
    """What the first contender is to reach: so many times the rate of another."""

    times: float
    of: str


@dataclass(slots=True)
class Benchmark:
    """One table. The first column is what is compared, drawn and given with its spread; `against` names the row that
    is 1.

    `wrong` says what was answered wrongly or didn't balance: then the whole run ends with 1. `load` is the load average
    before and after: what else ran on the cores.
    """

    part: str
    title: str
    rows: Sequence[Row]
    against: str
    columns: Sequence[Column]
    goals: Sequence[Goal] = ()
    less_is_better: bool = False
    wrong: Sequence[str] = ()
    load: tuple[float, float] = (0.0, 0.0)

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def ratios(self, row: Row, other: str | None = None) -> Sequence[float]:
        """How many times as good as the row named (or `against`), within each round, which ran one after the other."""
        key = self.columns[0].key
        pairs = zip(row.values(key), self.row(other or self.against).values(key), strict=True)
        return [theirs / ours if self.less_is_better else ours / theirs for ours, theirs in pairs if ours and theirs]

    def ratio(self, row: Row, other: str | None = None) -> float:
        ratios = self.ratios(row, other)
        return statistics.median(ratios) if ratios else float("nan")

    def judged(self) -> Sequence[tuple[Goal, float, bool]]:
        """Each goal with what was reached, and whether that is enough."""
        reached = [(goal, self.ratio(self.rows[0], goal.of)) for goal in self.goals]
        return [(goal, ratio, ratio >= goal.times) for goal, ratio in reached]


SERVED: Final = (
    Column("rate", "per second"),
    Column("p50", "p50 ms", 1),
    Column("p99", "p99 ms", 1),
    Column("server_cpu", "server us"),
    Column("postgres_cpu", "Postgres us"),
)
"""The columns of what is served over HTTP."""


def number(value: float | None, digits: int) -> str:
    """As tables have it; nothing where there is none."""
    return "" if value is None else f"{value:,.{digits}f}"
