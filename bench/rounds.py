"""Rounds: every contender once, then all again, so that what else the machine does falls on all alike."""

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from bench.load import Load, Measured
from bench.processes import Server, put_load


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a measurement takes."""

    rounds: int
    seconds: float
    warm_up: float


@dataclass(slots=True)
class Contender:
    """A server with its load, and what was measured of it; `stored` is how many rows its rounds left."""

    name: str
    server: Server
    load: Load
    rounds: list[Measured] = field(default_factory=list)
    stored: int = 0

    def median(self, what: str) -> float:
        """The median over the rounds of `rate`, `p50`, `p99`, `server_cpu`, `postgres_cpu` or `bytes_each`."""
        return float(statistics.median(getattr(measured, what) for measured in self.rounds))

    @property
    def good(self) -> int:
        return sum(measured.good for measured in self.rounds)

    @property
    def bad(self) -> int:
        return sum(measured.bad for measured in self.rounds)


async def run_rounds(
    contenders: Sequence[Contender],
    rounds: int,
    postgres_pid: int,
    count: Callable[[], Awaitable[int]] | None = None,
) -> None:
    """Fills in what is measured; `count` tells how many rows there are."""
    for _ in range(rounds):
        for contender in contenders:
            before = await count() if count else 0
            contender.rounds.append(await put_load(contender.server, contender.load, postgres_pid))
            contender.stored += await count() - before if count else 0


def ratio(one: Contender, other: Contender) -> float:
    """How many times the other's rate: the median over the rounds, each of which ran them one after the other."""
    pairs = zip(one.rounds, other.rounds, strict=True)
    return statistics.median(a.rate / b.rate for a, b in pairs)
