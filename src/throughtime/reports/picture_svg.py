"""A picture as SVG, for notebooks and files: lines, bands, its mark and its level, no script."""

import html
import math
import re
import textwrap
from collections.abc import Iterator
from typing import final

from throughtime.core.escaping import escaped
from throughtime.reports.drawing import LARGEST, ValueAxis, round_ticks
from throughtime.reports.lines import colour, thinned
from throughtime.results.diagnosis import Picture, Series

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _BOTTOM, _LINE = 64, 12, 44, 17
_MOST_POINTS = 200  # of a curve, which is as fine as the picture
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def picture_svg(picture: Picture, *, alone: bool = False) -> str:
    """Return a picture as one SVG element.

    Its text has the colour of the page around it.

    Arguments:
        alone: If True, it is a file of its own: on white, with its title.
    """
    return "".join(_Drawing(picture, alone=alone).parts())


@final
class _Drawing:
    def __init__(self, picture: Picture, *, alone: bool):
        self.picture, self.alone, self.axis = picture, alone, ValueAxis(picture)
        self.title = _wrapped(picture.title, 80) if alone else []
        legend = [s.label for s in picture.series] if len(picture.series) > 1 else []
        mark = 1 if picture.mark is not None else 0
        self.legend = legend
        self.top = 10 + _LINE * (len(self.title) + len(legend) + 1 + mark)
        self.height = HEIGHT + self.top
        known = [x for series in picture.series for x in series.x if math.isfinite(x)]
        if picture.mark is not None and math.isfinite(picture.mark[0]):
            known.append(picture.mark[0])
        first, last = min(known, default=0.0), max(known, default=1.0)
        pad = 0.015 * (last - first) or 0.5
        self.first, self.last = first - pad, last + pad

    def x(self, value: float) -> float:
        share = (value - self.first) / (self.last - self.first)
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def at(self, position: float) -> float:
        """Return the height of a position of the axis, a power of ten on a logarithmic one."""
        share = (position - self.axis.low) / (self.axis.high - self.axis.low)
        end = self.height - _BOTTOM
        return round(end - share * (end - self.top), 1)

    def y(self, value: float) -> float:
        return self.at(math.log10(value) if self.axis.logarithmic else value)

    def parts(self) -> Iterator[str]:
        size = f'width="{WIDTH}" height="{self.height}" viewBox="0 0 {WIDTH} {self.height}"'
        style = "max-width: 100%; height: auto; font: 12px system-ui, sans-serif"
        style += "; background: white; color: #1b1e23" if self.alone else ""
        yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" style="{style}">'
        yield f"<title>{_text(self.picture.title)}</title>"
        for k, words in enumerate(self.title):
            yield _words(0, 18 + _LINE * k, words, 'font-weight="700" font-size="14"')
        yield from self._axes()
        for index, series in enumerate(self.picture.series):
            yield from self._series(index, series)
        yield from self._guides()
        yield "</svg>"

    def _axes(self) -> Iterator[str]:
        left, right, low = _LEFT, WIDTH - _RIGHT, self.height - _BOTTOM
        above = 10 + _LINE * len(self.title)
        for k, label in enumerate(self.legend):
            y = above + _LINE * k + 6
            yield _path(f"M0 {y}H28", k)
            yield _words(36, y + 4, label)
        yield _words(0, above + _LINE * len(self.legend) + 8, self.picture.y_label, 'opacity="0.8"')
        for position, said in self.axis.ticks():
            y = self.at(position)
            said = re.sub("<sup>(.*)</sup>", lambda m: m[1].translate(_SUPERSCRIPTS), said)
            yield f'<path d="M{left} {y}H{right}" stroke="currentColor" stroke-opacity="0.15"/>'
            yield _words(left - 8, y + 4, said, 'text-anchor="end"')
        for value, said in round_ticks(self.first, self.last):
            if value.is_integer() or self.last - self.first < 6:
                yield _words(self.x(value), low + 17, said, 'text-anchor="middle"')
        yield f'<path d="M{left} {low}H{right}" stroke="currentColor" stroke-opacity="0.5"/>'
        yield _words(right, low + 36, self.picture.x_label, 'text-anchor="end" opacity="0.8"')

    def _series(self, index: int, series: Series) -> Iterator[str]:
        kept = thinned(len(series.x), _MOST_POINTS)
        if series.low:
            band = [k for k in kept if not math.isnan(series.low[k] + series.high[k])]
            upper = [(series.x[k], self.axis.clamp(series.high[k])) for k in band]
            lower = [(series.x[k], self.axis.clamp(series.low[k])) for k in reversed(band)]
            points = " ".join(f"{self.x(x)},{self._inside(self.y(y))}" for x, y in upper + lower)
            yield f'<polygon points="{points}" fill="{colour(index)}" fill-opacity="0.18"/>'
        path, pen = "", False
        for k in kept:
            x, y = series.x[k], series.y[k]
            if self.axis.shows(y):
                path += f"{'L' if pen else 'M'}{self.x(x)} {self.y(y)}"
                pen = True
                continue
            pen = False
            if not math.isnan(y):  # at the edge of the axis, which has no place for it
                yield self._triangle(index, x, top=y > LARGEST)
        if path:
            yield _path(path, index)

    def _inside(self, y: float) -> float:
        return min(max(y, self.top), self.height - _BOTTOM)

    def _triangle(self, index: int, x: float, *, top: bool) -> str:
        at, y, side = self.x(x), self.y(self.axis.edge(top=top)), -5 if top else 5
        return f'<path d="M{at - 4} {y - side}h8l-4 {2 * side}Z" fill="{colour(index)}"/>'

    def _guides(self) -> Iterator[str]:
        right, low = WIDTH - _RIGHT, self.height - _BOTTOM
        dotted = 'stroke="currentColor" stroke-dasharray="2 3" stroke-opacity="0.8"'
        if self.picture.level is not None and self.axis.shows(self.picture.level[0]):
            y = self.y(self.picture.level[0])
            yield f'<path d="M{_LEFT} {y}H{right}" {dotted}/>'
            yield _words(right - 4, y - 5, self.picture.level[1], 'text-anchor="end"')
        if self.picture.mark is not None and math.isfinite(self.picture.mark[0]):
            x = self.x(self.picture.mark[0])
            late = 2 * x > WIDTH
            yield f'<path d="M{x} {self.top}V{low}" {dotted}/>'
            anchor = f'text-anchor="{"end" if late else "start"}"'
            yield _words(x, self.top - 5, self.picture.mark[1], anchor)


def _path(path: str, index: int) -> str:
    dash = _DASHES[index % len(_DASHES)]
    return (
        f'<path d="{path}" fill="none" stroke="{colour(index)}" stroke-width="2" '
        f'stroke-linecap="round" stroke-dasharray="{dash or "none"}"/>'
    )


def _words(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" fill="currentColor" {more}>{_text(text)}</text>'


def _text(text: str) -> str:
    return html.escape(escaped(text))


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width) or [""]
