"""Bars, as an SVG that is text."""

from collections.abc import Sequence
from html import escape
from statistics import median
from typing import NamedTuple

from benchmarks.table import number

_WIDTH, _LEFT, _RIGHT, _TOP, _STEP, _BAR = 760, 220, 90, 44, 30, 18
_OURS, _THEIRS, _INK, _FAINT = "#2f6f9f", "#b8b8b8", "#222222", "#777777"


class Bar(NamedTuple):
    """The medians of one contender, and the least and largest of its rounds."""

    label: str
    figures: Sequence[float]
    ours: bool = True


def bars(title: str, unit: str, shown: Sequence[Bar]) -> str:
    """One bar for each contender, from zero; a line shows from where to where its rounds went."""
    height = _TOP + _STEP * len(shown) + 12
    largest = max((max(bar.figures) for bar in shown), default=0.0) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / largest
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        f' font-family="sans-serif" font-size="13" fill="{_INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15">{escape(title)}'
        f'<tspan fill="{_FAINT}"> {escape(unit)}</tspan></text>',
    ]
    for index, bar in enumerate(shown):
        top = _TOP + _STEP * index
        middle = median(bar.figures)
        width, base = middle * scale, top + _BAR - 4
        least, most = _LEFT + min(bar.figures) * scale, _LEFT + max(bar.figures) * scale
        lines += [
            f'<text x="{_LEFT - 8}" y="{base}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}"'
            f' fill="{_OURS if bar.ours else _THEIRS}"/>',
            f'<path d="M{least:.1f} {top + _BAR / 2}H{most:.1f}" stroke="{_INK}"/>',
            f'<text x="{max(most, _LEFT + width) + 6:.1f}" y="{base}">{number(middle)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
