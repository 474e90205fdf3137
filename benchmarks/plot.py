"""One SVG per workload: each subject's median as a dot, its lowest and highest round as a line, on a logarithmic axis.

Written by hand, since a plotting library would be a larger dependency than the benchmark itself.
"""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape

from benchmarks.figures import Row

_WIDTH, _LEFT, _RIGHT, _TOP, _STEP = 720, 130, 110, 56, 34
_OWN, _PEER = "#c2410c", "#334155"


def plot(title: str, figure: str, unit: str, rows: Sequence[Row]) -> str | None:
    """Return the SVG of one figure of one workload's rows, or None when no row has it."""
    shown = [row for row in rows if figure in row.spread]
    if not shown:
        return None
    lowest = floor(log10(min(row.spread[figure][0] for row in shown)))
    highest = max(lowest + 1, ceil(log10(max(row.spread[figure][1] for row in shown))))

    def x(value: float) -> float:
        return _LEFT + (log10(value) - lowest) / (highest - lowest) * (_WIDTH - _LEFT - _RIGHT)

    bottom = _TOP + _STEP * len(shown)
    parts = [_text(_LEFT, 22, f"{title}: {unit}", size=15), *_axis(x, range(lowest, highest + 1), bottom)]
    for number, row in enumerate(shown):
        y = _TOP + _STEP * number + _STEP / 2
        median: float = getattr(row, figure)
        low, high = row.spread[figure]
        color = _OWN if row.subject.startswith("sallyport") else _PEER
        parts += [
            _text(_LEFT - 12, y + 4, row.subject, anchor="end", color=color),
            f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="3"/>',
            f'<circle cx="{x(median):.1f}" cy="{y}" r="6" fill="{color}"/>',
            _text(x(high) + 12, y + 4, f"{median:.1f}" if median < 100 else f"{median:.0f}", color=color),
        ]
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 36}" font-family="sans-serif"'
    return "\n".join((f"<svg {box}>", '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"))


def _axis(x: Callable[[float], float], decades: range, bottom: int) -> list[str]:
    parts = []
    for decade in decades:
        at = x(10.0**decade)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 8}" y2="{bottom}" stroke="#cbd5e1"/>')
        parts.append(_text(at, bottom + 20, f"{10.0**decade:g}", anchor="middle"))
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", color: str = _PEER, size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{escape(text)}</text>'
    )
