"""Picture: a few lines over time as SVG."""

from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 720
_HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 110, 34, 40
_COLOURS: Final = ("#1668a8", "#5ba3d9", "#b4541a", "#e09a5f", "#3d7a3d", "#777777")


def draw(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], below: str) -> str:
    """An SVG of lines of (x, y), each named at its end; both axes begin at 0."""
    most_x = max((x for points in lines.values() for x, _ in points), default=1.0) or 1.0
    most_y = max((y for points in lines.values() for _, y in points), default=1.0) * 1.1 or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + x / most_x * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - y / most_y * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for part in range(5):
        value = most_y * part / 4
        _, y = at(0, value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.0f}</text>')
    for part in range(5):
        x, y = at(most_x * part / 4, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{most_x * part / 4:.1f}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{escape(below)}</text>')
    ends: list[float] = []
    for place, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        _, y = at(*points[-1])
        while any(abs(y - other) < 13 for other in ends):
            y += 13
        ends.append(y)
        parts.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])
