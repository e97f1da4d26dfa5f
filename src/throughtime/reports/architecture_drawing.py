"""An architecture as one SVG: its cyclic graph, and the same graph unfolded in time.

Edges run straight between neighbours, and otherwise on tracks: upright ones beside the cyclic
graph, level ones between the rows of the unfolded graph. Labels stand where no track and no stub of
a track can be, so that no edge crosses a label.
"""

import html
from collections.abc import Iterable, Sequence

from throughtime.core.escaping import escaped
from throughtime.reports.architecture_parts import (
    MARGIN,
    Parts,
    Rows,
    css_class,
    shortened,
    text_width,
)
from throughtime.reports.cyclic_drawing import draw_cyclic
from throughtime.reports.lines import COLOURS
from throughtime.reports.unfolded_drawing import Unfolded
from throughtime.wiring import Architecture, Complexity, Edge

_WITNESSES = ("deepest cycle", "longest path", "fastest cycle")
_DARK = ("#56b4e9", "#ff8a3c", "#2cc79a")
_TITLE_CELLS = 60


def architecture_svg(architecture: Architecture, complexity: Complexity) -> str:
    """Both graphs in one picture, the witnesses of the measures in colour.

    Solid edges are of one step, dashed ones of an earlier one, with their lags. In the unfolded
    graph each column is a step. Steps between the lags are left out where there are many of them;
    so are lags beyond eight columns, and the picture names these.

    Arguments:
        architecture: the graph.
        complexity: its measures.

    Returns:
        An SVG document. Its colours follow the light or dark scheme of the viewer.
    """
    witnesses = (complexity.deepest_cycle, complexity.longest_path, complexity.fastest_cycle)
    paints = {
        edge: [name for name, shown in zip(_WITNESSES, witnesses, strict=True) if edge in shown]
        for edge in architecture.edges
    }
    unfolded = Unfolded(architecture)
    rows = Rows(architecture, unfolded.tracks)
    parts, key = Parts(paints), Parts(paints)
    cyclic_width = draw_cyclic(parts, architecture, rows)
    parts.translate(0, 84)
    left = cyclic_width + 2 * MARGIN
    right = Parts(paints)
    unfolded_width = unfolded.draw(right, rows)
    right.translate(left, 84)
    bottom = 84 + rows.height + 52
    whole = escaped(architecture.name)
    name = html.escape(shortened(whole, _TITLE_CELLS))
    heading = f"unfolded in time{unfolded.remark}"
    width = max(
        left + unfolded_width,
        left + text_width(heading, 13) + MARGIN,
        text_width(name, 13) + 2 * MARGIN,
        _draw_key(key, bottom),
    )
    height = bottom + 28
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" style="max-width: 100%; height: auto" '
        f'role="img">\n<title>{html.escape(whole)}</title>\n'
        f"<style>\n{_style()}</style>\n"
        f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>\n'
        f"<defs>{_arrow('plain')}{''.join(map(_arrow, _WITNESSES))}</defs>\n"
        f'<text class="title start" x="{MARGIN:.0f}" y="30">{name}</text>\n'
        f'<text class="lag start" x="{MARGIN:.0f}" y="54">cyclic graph</text>\n'
        f'<text class="lag start" x="{left + MARGIN:.0f}" y="54">{html.escape(heading)}</text>\n'
        f"{parts.text()}{right.text()}{key.text()}</svg>\n"
    )


def _style() -> str:
    def theme(page: str, text: str, muted: str, edge: str, end: str, paints: Sequence[str]) -> str:
        painted = "".join(
            f"path.{css_class(name)} {{ stroke: {paint}; }}\n"
            f"marker path.{css_class(name)} {{ fill: {paint}; }}\n"
            for name, paint in zip(_WITNESSES, paints, strict=True)
        )
        return (
            f".page, .node {{ fill: {page}; }} text {{ fill: {text}; }} .lag {{ fill: {muted}; }}\n"
            f".node {{ stroke: {muted}; }} .end {{ fill: {end}; }}\n"
            f"path {{ stroke: {edge}; }} marker path {{ fill: {edge}; }}\n{painted}"
        )

    dark = theme("#14171a", "#e8eaed", "#a3acb5", "#7f8791", "#2b3035", _DARK)
    return (
        "text { font: 13px system-ui, sans-serif; text-anchor: middle; }\n"
        ".lag { font-size: 11px; }\n"
        ".title { font-weight: 600; }\n"
        ".start { text-anchor: start; } .stop { text-anchor: end; }\n"
        "path { fill: none; stroke-width: 1.4; } marker path { stroke: none !important; }\n"
        ".delayed { stroke-dasharray: 5 4; }\n"
        + theme("#ffffff", "#1f2328", "#5b5f66", "#8b9099", "#eef0f3", COLOURS[:3])
        + f"@media (prefers-color-scheme: dark) {{\n{dark}}}\n"
        "@media print { .page { fill: none; } }\n"
    )


def _draw_key(key: Parts, y: float) -> float:
    """Draw the key of colours and dashes; return its width."""
    x = MARGIN
    entries = [(css_class(name), 3.0, name) for name in _WITNESSES]
    for kind, thick, text in (*entries, ("plain delayed", 1.4, "from an earlier step")):
        key.line([(x, y), (x + 34, y)], kind, thick)
        key.label(x + 42, y, text, "lag start")
        x += 42 + text_width(text, 11) + 24
    return x


def _arrow(name: str) -> str:
    return (
        f'<marker id="{css_class(name)}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path class="{css_class(name)}" d="M 0 0.5 L 8 4 L 0 7.5 z"/></marker>'
    )


def in_words(edges: Iterable[Edge]) -> str:
    """A cycle or path as a line: h1 -> h2 -> h1 (lag 1).

    Arguments:
        edges: each from where the one before ends.
    """
    parts: list[str] = []
    for edge in edges:
        if not parts:
            parts.append(edge.source)
        parts.append(edge.target + (f" (lag {edge.lag})" if edge.lag else ""))
    return " -> ".join(parts)
