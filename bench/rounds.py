"""Rounds: every contender once, then all again, so that what else the machine does falls on all alike."""

import dataclasses
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.figures import Benchmark, Row
from bench.load import Load, Measured
from bench.processes import Server, put_load


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a measurement takes."""

    rounds: int
    seconds: float
    warm_up: float


@dataclass(frozen=True, slots=True)
class Contender:
    """A server with its load, as processes that are asked in turn, round by round; `stores` says that every good
    answer of it must leave a row."""

    name: str
    servers: Sequence[Server]
    load: Load
    stores: bool = False


async def run_rounds(
    benchmark: Benchmark,
    contenders: Sequence[Contender],
    rounds: int,
    postgres_pid: int,
    count: Callable[[], Awaitable[int]] | None = None,
) -> Benchmark:
    """Measures; `count` tells how many rows there are. Gives the benchmark filled in."""
    figures: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in contenders}
    wrong = []
    before = os.getloadavg()[0]
    for number in range(rounds):
        for contender in contenders:
            server = contender.servers[number % len(contender.servers)]
            stored = await count() if count else 0
            measured = await put_load(server, contender.load, postgres_pid)
            kept = await count() - stored if count else 0
            figures[contender.name].append(_figures(measured) | ({"stored": float(kept)} if count else {}))
            if measured.bad:
                wrong.append(f"{contender.name}: {measured.bad} wrong answers")
            if not measured.answered:
                wrong.append(f"{contender.name}: no answer at all")
            if kept != (measured.good if contender.stores else 0):
                wrong.append(f"{contender.name} answered {measured.good} and kept {kept}")
    rows = [Row(name, each) for name, each in figures.items()]
    load = (round(before, 2), round(os.getloadavg()[0], 2))
    return dataclasses.replace(benchmark, rows=rows, wrong=wrong, load=load)


def _figures(measured: Measured) -> dict[str, float]:
    return {**dataclasses.asdict(measured), "rate": measured.rate}
