"""What was measured, as tables for people and as JSON."""

import dataclasses
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.node import node_version, postgraphile_version
from bench.processes import RESULTS
from bench.rounds import Contender, ratio

_PACKAGES = (
    "strawberry-graphql",
    "graphql-core",
    "asyncpg",
    "orjson",
    "uvicorn",
    "uvloop",
    "starlette",
    "cryptography",
)


async def conditions(database_url: str, messages: int) -> dict[str, Any]:
    """Versions, the machine, and how Postgres was set."""
    connection = await asyncpg.connect(database_url)
    try:
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
        postgres = {name: await connection.fetchval(f"SHOW {name}") for name in names}
    finally:
        await connection.close()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "messages": messages,
        "python": platform.python_version(),
        "node": node_version(),
        "postgraphile": postgraphile_version(),
        "postgres": postgres,
        "packages": {name: version(name) for name in _PACKAGES},
    }


def show(console: Console, title: str, contenders: Sequence[Contender], *, against: str, stores: bool) -> None:
    """A table of one benchmark; ratios are of the rates to that of the contender `against`."""
    table = Table(title=title, title_justify="left")
    columns = ["", "per second", "min..max", f"x {against}", "p50 ms", "p99 ms", "server us", "Postgres us"]
    columns += ["answered 200", "rows stored"] if stores else ["bytes"]
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    reference = next(contender for contender in contenders if contender.name == against)
    for contender in contenders:
        rates = [measured.rate for measured in contender.rounds]
        cells = [
            contender.name,
            f"{contender.median('rate'):,.0f}",
            f"{min(rates):,.0f}..{max(rates):,.0f}",
            f"{ratio(contender, reference):.2f}",
            f"{contender.median('p50'):.1f}",
            f"{contender.median('p99'):.1f}",
            f"{contender.median('server_cpu'):,.0f}",
            f"{contender.median('postgres_cpu'):,.0f}",
        ]
        cells += (
            [f"{contender.good:,}", f"{contender.stored:,}"] if stores else [f"{contender.median('bytes_each'):,.0f}"]
        )
        table.add_row(*cells)
    console.print(table)


def save(name: str, stated: Mapping[str, Any], benchmarks: Mapping[str, Sequence[Contender]]) -> None:
    """Writes everything to `bench/results`."""
    content = {
        "conditions": stated,
        "benchmarks": {
            title: [
                {
                    "name": contender.name,
                    "stored": contender.stored,
                    "rounds": [dataclasses.asdict(measured) | {"rate": measured.rate} for measured in contender.rounds],
                }
                for contender in contenders
            ]
            for title, contenders in benchmarks.items()
        },
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2))
