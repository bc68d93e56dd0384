"""Bars and curves, as an SVG that is text."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
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
    lines = _head(title, unit, height)
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


def curves(
    title: str, unit: str, places: Sequence[float], shown: Mapping[str, Sequence[float]]
) -> str:
    """A line for each of what is shown, over `places`; both axes grow by powers of ten."""
    height, bottom = 300, 262
    figures = [max(figure, 1e-9) for line in shown.values() for figure in line]
    low, high = log10(min(figures)), log10(max(figures))
    left, right = log10(places[0]), log10(places[-1])

    def x(place: float) -> float:
        return 60 + (log10(place) - left) / (right - left) * (_WIDTH - 280)

    def y(figure: float) -> float:
        share = (log10(max(figure, 1e-9)) - low) / ((high - low) or 1.0)
        return bottom - 20 - share * (bottom - 80)

    lines = _head(title, unit, height)
    lines.append(f'<path d="M60 {bottom}H{_WIDTH - 220}" stroke="{_FAINT}"/>')
    lines += [
        f'<text x="{x(place):.1f}" y="{bottom + 18}" text-anchor="middle">{place:,.0f}</text>'
        for place in places
    ]
    for index, (name, line) in enumerate(shown.items()):
        ink = (_OURS, "#b5651d", "#4a7a3a", _FAINT)[index % 4]
        points = " ".join(
            f"{x(place):.1f},{y(figure):.1f}" for place, figure in zip(places, line, strict=True)
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{ink}" stroke-width="2"/>')
        lines += [
            f'<text x="{x(place):.1f}" y="{y(figure) - 7:.1f}" text-anchor="middle" fill="{ink}">'
            f"{number(figure)}</text>"
            for place, figure in zip(places, line, strict=True)
        ]
        lines.append(
            f'<text x="{_WIDTH - 205}" y="{y(line[-1]) + 5:.1f}" fill="{ink}">{escape(name)}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _head(title: str, unit: str, height: int) -> list[str]:
    """How every picture begins."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        f' font-family="sans-serif" font-size="13" fill="{_INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15">{escape(title)}'
        f'<tspan fill="{_FAINT}"> {escape(unit)}</tspan></text>',
    ]
