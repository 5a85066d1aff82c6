"""The figures as a picture: one SVG of bars, by hand. Its colours follow the reader's, light or dark."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

from bench.figures import Benchmark, Row

_WIDTH: Final = 860
_LABEL: Final = 300
_BAR: Final = 330
_LINE: Final = 24
_HEADING: Final = 54
_STYLE: Final = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; }
.ground { fill: #ffffff; } .text { fill: #1f2328; } .quiet { fill: #59636e; }
.heading { fill: #1f2328; font-weight: 600; font-size: 14px; }
.ours { fill: #0969da; } .theirs { fill: #afb8c1; } .rule { stroke: #d1d9e0; } .spread { stroke: #1f2328; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; } .text, .heading { fill: #f0f6fc; } .quiet { fill: #9198a1; }
  .ours { fill: #4493f8; } .theirs { fill: #656c76; } .rule { stroke: #3d444d; } .spread { stroke: #f0f6fc; }
}
"""


def draw(benchmarks: Sequence[Benchmark], caption: str) -> str:
    """The SVG. Bars are medians over the rounds, from 0; the line across each goes from its least round to its best."""
    parts: list[str] = []
    top = 30
    for benchmark in benchmarks:
        parts += _group(benchmark, top)
        top += _HEADING + _LINE * len(benchmark.rows)
    height = top + 16
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(caption)}"><style>{_STYLE}</style>'
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>'
        f'<text class="quiet" x="16" y="22">{escape(caption)}</text>'
    )
    return head + "\n".join(parts) + "</svg>\n"


def save(path: Path, benchmarks: Sequence[Benchmark], caption: str) -> None:
    path.write_text(draw(benchmarks, caption))


def _group(benchmark: Benchmark, top: int) -> Iterator[str]:
    column = benchmark.columns[0]
    longest = max((max(row.values(column.key), default=0) for row in benchmark.rows), default=0) or 1
    better = "less is better" if benchmark.less_is_better else "more is better"
    yield f'<text class="heading" x="16" y="{top + 30}">{escape(benchmark.title)}</text>'
    yield (
        f'<text class="quiet" x="{_WIDTH - 16}" y="{top + 30}" text-anchor="end">'
        f"{escape(column.heading)}, {better}</text>"
    )
    for number, row in enumerate(benchmark.rows):
        yield from _bar(benchmark, row, top + _HEADING - 12 + _LINE * number, longest)
    foot = top + _HEADING - 12 + _LINE * len(benchmark.rows)
    yield f'<line class="rule" x1="{_LABEL}" x2="{_LABEL}" y1="{top + _HEADING - 14}" y2="{foot}"/>'


def _bar(benchmark: Benchmark, row: Row, top: int, longest: float) -> Iterator[str]:
    column = benchmark.columns[0]
    median = row.shown(column)
    if median is None:
        return
    values = row.values(column.key)
    low, high = (_LABEL + _BAR * value / longest for value in (min(values), max(values)))
    middle = top + 8
    kind = "ours" if row.name.startswith("Carepost") else "theirs"
    yield f'<text class="text" x="{_LABEL - 10}" y="{middle + 5}" text-anchor="end">{escape(row.name)}</text>'
    yield f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{_BAR * median / longest:.1f}" height="16" rx="2"/>'
    yield f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
    yield (
        f'<text class="text" x="{_LABEL + _BAR + 12}" y="{middle + 5}">{median:,.{column.digits}f}'
        f'<tspan class="quiet">  {benchmark.ratio(row):.2f} x</tspan></text>'
    )
