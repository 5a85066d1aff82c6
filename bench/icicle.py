"""Flame graphs as a picture: one SVG by hand, the outermost call on top, each as wide as its share of the samples."""

from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from typing import Final

from bench.samples import Frame, Samples, Stack

_WIDTH: Final = 1180
_MARGIN: Final = 16
_LINE: Final = 17
_LETTER: Final = 6.3
_LEAST: Final = 0.004
"""Of all samples: what is narrower isn't drawn."""
_DEEPEST: Final = 34
_COLOURS: Final[Mapping[str, str]] = {
    "Carepost": "#4f8fe6",
    "asyncpg": "#4fb286",
    "graphql-core": "#e5714d",
    "Strawberry": "#e06c9f",
    "uvicorn": "#c9a227",
    "websockets": "#c9a227",
    "Starlette": "#d9b650",
    "aiosmtplib": "#8f7ee6",
    "email": "#e5714d",
}
_OTHERS: Final = "#a3adb8"
_STYLE: Final = """
svg { font: 11px ui-monospace, SFMono-Regular, Menlo, monospace; }
.ground { fill: #ffffff; } .text { fill: #1f2328; } .quiet { fill: #59636e; }
.heading { fill: #1f2328; font: 600 14px system-ui, -apple-system, "Segoe UI", sans-serif; }
.frame { stroke: #ffffff; stroke-width: 0.6; } .in { fill: #10161d; pointer-events: none; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; } .text, .heading { fill: #f0f6fc; } .quiet { fill: #9198a1; } .frame { stroke: #0d1117; }
}
"""


def draw(graphs: Mapping[str, Samples], caption: str) -> str:
    """The SVG: a graph for each title, one below the other."""
    parts: list[str] = []
    top = 34
    for title, samples in graphs.items():
        parts.append(f'<text class="heading" x="{_MARGIN}" y="{top + 16}">{escape(title)}</text>')
        drawn, deepest = _graph(samples, top + 26)
        parts += drawn
        top += 26 + (deepest + 1) * _LINE + 14
    parts += _legend(graphs, top)
    height = top + 30
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(caption)}"><style>{_STYLE}</style>'
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>'
        f'<text class="quiet" x="{_MARGIN}" y="22">{escape(caption)}</text>'
    )
    return head + "\n".join(parts) + "</svg>\n"


def _graph(samples: Samples, top: int) -> tuple[list[str], int]:
    """The frames, and the number of the lowest row."""
    shared, total = _shared(samples), samples.total
    stacks: Counter[Stack] = Counter()
    for stack, count in samples.stacks.items():
        stacks[stack[shared : shared + _DEEPEST]] += count
    parts: list[str] = []
    lowest = 0
    for depth, stack, left, count in _boxes(stacks, (), 0, total):
        lowest = max(lowest, depth)
        parts.append(_box(stack[-1], depth, left / total, count / total, top))
    return parts, lowest


def _shared(samples: Samples) -> int:
    """How many of the outermost frames are those of (nearly) all samples: they say how the process was started."""
    depth = 0
    while True:
        found: Counter[Stack] = Counter()
        for stack, count in samples.stacks.items():
            if len(stack) > depth + 1:
                found[stack[: depth + 1]] += count
        if not found or found.most_common(1)[0][1] < 0.97 * samples.total:
            return depth
        depth += 1


def _boxes(stacks: Mapping[Stack, int], above: Stack, left: int, total: int) -> Iterator[tuple[int, Stack, int, int]]:
    """(depth, stack, samples to the left, samples) of each frame that is wide enough, the widest of a row first."""
    below: dict[Frame, dict[Stack, int]] = {}
    for stack, count in stacks.items():
        if len(stack) > len(above):
            below.setdefault(stack[len(above)], {})[stack] = count
    for frame, some in sorted(below.items(), key=lambda item: -sum(item[1].values())):
        count = sum(some.values())
        if count < _LEAST * total:
            break
        own = (*above, frame)
        yield len(above), own, left, count
        yield from _boxes(some, own, left, total)
        left += count


def _box(frame: Frame, depth: int, left: float, share: float, top: int) -> str:
    whole = _WIDTH - 2 * _MARGIN
    x, width, y = _MARGIN + left * whole, share * whole, top + depth * _LINE
    colour = next((colour for name, colour in _COLOURS.items() if frame.area.startswith(name)), _OTHERS)
    label = escape(f"{frame.name} ({frame.file})" if frame.file else frame.name)
    box = (
        f'<g><title>{label}: {share:.1%}</title><rect class="frame" x="{x:.1f}" y="{y}" width="{width:.1f}" '
        f'height="{_LINE - 1}" fill="{colour}"/>'
    )
    fits = int((width - 6) / _LETTER)
    if fits >= 4:
        shown = frame.name if len(frame.name) <= fits else frame.name[: fits - 1] + "…"
        box += f'<text class="in" x="{x + 3:.1f}" y="{y + 12}">{escape(shown)}</text>'
    return box + "</g>"


def _legend(graphs: Mapping[str, Samples], top: int) -> Iterator[str]:
    seen = {frame.area for samples in graphs.values() for stack in samples.stacks for frame in stack}
    x = _MARGIN
    for name, colour in {**_COLOURS, "others": _OTHERS}.items():
        if name == "others" or any(area.startswith(name) for area in seen):
            yield f'<rect x="{x}" y="{top}" width="12" height="12" fill="{colour}"/>'
            yield f'<text class="text" x="{x + 17}" y="{top + 10}">{name}</text>'
            x += 34 + int(len(name) * _LETTER)
