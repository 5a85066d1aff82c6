"""What was measured as Markdown tables, for docs/performance.md."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.figures import Benchmark, Row, number


def written(stated: Mapping[str, Any], benchmarks: Sequence[Benchmark]) -> str:
    """The conditions, a table for each benchmark, and every goal."""
    return "\n".join(
        [
            f"{stated['at'][:10]}, commit {stated['commit']}, {stated['messages']:,} messages, {stated['cpus']} cores.",
            "",
            *(line for benchmark in benchmarks for line in _table(benchmark)),
            *_goals(benchmarks),
            "",
        ]
    )


def _table(benchmark: Benchmark) -> Iterator[str]:
    before, after = benchmark.load
    first, *others = benchmark.columns
    # Columns that nobody has a figure for are left out.
    others = [column for column in others if any(row.values(column.key) for row in benchmark.rows)]
    yield f"**{benchmark.title}** (load average {before} before, {after} after)"
    yield ""
    yield _line("", f"{first.heading} (min to max)", f"x {benchmark.against}", *(each.heading for each in others))
    yield _line(*["---"] * (3 + len(others)))
    for row in benchmark.rows:
        cells = (number(row.shown(column), column.digits) for column in others)
        yield _line(row.name, _spread(row, first.key, first.digits), _ratio(benchmark, row), *cells)
    yield ""


def _spread(row: Row, key: str, digits: int) -> str:
    values = row.values(key)
    if not values:
        return ""
    least, most = number(min(values), digits), number(max(values), digits)
    middle = number(statistics.median(values), digits)
    return middle if least == most else f"{middle} ({least} to {most})"


def _ratio(benchmark: Benchmark, row: Row) -> str:
    ratios = benchmark.ratios(row)
    if not ratios:
        return ""
    if row.name == benchmark.against:
        return "1"
    return f"**{benchmark.ratio(row):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"


def _goals(benchmarks: Sequence[Benchmark]) -> Iterator[str]:
    yield _line("goal", "of", "asked", "reached", "")
    yield _line(*["---"] * 5)
    for benchmark in benchmarks:
        for goal, ratio, enough in benchmark.judged():
            yield _line(benchmark.title, goal.of, f"{goal.times:g}", f"{ratio:.2f}", "yes" if enough else "**no**")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
