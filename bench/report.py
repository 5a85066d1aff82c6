"""What was measured, as tables for people, as JSON, as Markdown, and as a picture."""

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console
from rich.table import Table

from bench import markdown, picture
from bench.figures import Benchmark, number
from bench.node import node_version, peer_versions
from bench.processes import RESULTS

_PACKAGES: Final = (
    "strawberry-graphql",
    "graphql-core",
    "asyncpg",
    "orjson",
    "uvicorn",
    "uvloop",
    "starlette",
    "cryptography",
)


def load_average() -> float:
    """Of the last minute."""
    return round(os.getloadavg()[0], 2)


async def conditions(database_url: str) -> dict[str, Any]:
    """Versions, the machine, and how Postgres was set."""
    connection = await asyncpg.connect(database_url)
    try:
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
        postgres = {name: await connection.fetchval(f"SHOW {name}") for name in names}
    finally:
        await connection.close()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": load_average(),
        "python": platform.python_version(),
        "node": node_version(),
        "npm": peer_versions(),
        "postgres": postgres,
        "packages": {name: version(name) for name in _PACKAGES},
    }


def show_conditions(console: Console, stated: Mapping[str, Any]) -> None:
    for name, value in stated.items():
        text = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)
        console.print(f"  {name}: {text}", soft_wrap=True)


def show(console: Console, benchmark: Benchmark) -> None:
    """A table; every ratio is the median of the ratios within the rounds, with the least and the greatest."""
    first, *others = benchmark.columns
    before, after = benchmark.load
    title = f"{benchmark.title} (load average {before} before, {after} after)"
    table = Table(title=title, title_justify="left")
    headings = ["", first.heading, "min..max", f"x {benchmark.against}", "min..max", *(each.heading for each in others)]
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right")
    for row in benchmark.rows:
        values = row.values(first.key)
        ratios = benchmark.ratios(row)
        cells = [row.name, number(row.shown(first), first.digits)]
        cells.append(f"{min(values):,.{first.digits}f}..{max(values):,.{first.digits}f}" if values else "")
        cells.append(f"{benchmark.ratio(row):.2f}")
        cells.append(f"{min(ratios):.2f}..{max(ratios):.2f}" if ratios else "")
        table.add_row(*cells, *(number(row.shown(column), column.digits) for column in others))
    console.print(table)
    for text in benchmark.wrong:
        console.print(f"[red]{text}")


def show_summary(console: Console, benchmarks: Sequence[Benchmark]) -> None:
    """Every goal, reached or not."""
    table = Table(title="Goals", title_justify="left")
    for heading in ("", "goal", "reached", ""):
        table.add_column(heading, justify="left" if not heading else "right")
    for benchmark in benchmarks:
        for goal, ratio, enough in benchmark.judged():
            asked = f"{goal.times:g} x {goal.of}"
            table.add_row(benchmark.title, asked, f"{ratio:.2f}", "yes" if enough else "[red]no")
    if table.row_count:
        console.print(table)


def save(console: Console, stated: Mapping[str, Any], benchmarks: Sequence[Benchmark], kind: str = "") -> None:
    """Writes every round, the tables and the picture to `bench/results`."""
    name = "-".join([stated["at"].replace(":", ""), *([kind] if kind else []), *(["quick"] if stated["quick"] else [])])
    content = {"conditions": stated, "benchmarks": [dataclasses.asdict(benchmark) for benchmark in benchmarks]}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2))
    caption = (
        f"{stated['at'][:10]}, commit {stated['commit']}, {stated['messages']:,} messages, {stated['cpus']} cores, "
        f"load average {stated['load_before']} to {stated['load_after']}"
    )
    (RESULTS / f"{name}.md").write_text(markdown.written(stated, benchmarks))
    picture.save(RESULTS / f"{name}.svg", benchmarks, caption)
    console.print(f"Every round: bench/results/{name}.json; tables and picture: the same with .md and .svg")


def _commit() -> str:
    """The commit that is measured, marked where files differ from it; `unknown` outside a repository."""
    try:
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
        done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
