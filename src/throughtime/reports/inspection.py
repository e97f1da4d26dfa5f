"""Results of instruments as text and as a page."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from throughtime.reports.lines import DASHES
from throughtime.reports.numbers import duration
from throughtime.reports.plot import Shown, pictures
from throughtime.results.diagnosis import Inspection, Measurement
from throughtime.results.record import Record

TITLES = {
    "alignment": "Attention over the source",
    "basins": "Basins of attraction",
    "cliffs": "The loss along its gradient",
    "decoding": "Past inputs in the state",
    "fixed_points": "Fixed points",
    "forward_memory": "Memory of a small change",
    "gates": "Gates",
    "gradient_flow": "Gradient flow",
    "gradient_noise": "Gradient norms of batches",
    "input_influence": "Influence of old inputs",
    "jacobians": "Jacobians of the steps",
    "lyapunov": "Lyapunov exponents",
    "memory_accesses": "Reads and writes of the memory",
    "word_influence": "Gradient of target words at source words",
}
"""Headings of a page by the name of the instrument."""


def inspection_table(record: Record) -> Group:
    """Return the findings of each instrument for the terminal: 80 columns are enough."""
    found = _as_inspection(record)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("instrument", no_wrap=True)
    table.add_column("result", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for part in found.measurements:
        table.add_row(
            Text(part.instrument, style="bold"), _sentences(part, found), duration(part.seconds)
        )
    return Group(Text(found.model, style="bold"), Text(), table)


def _sentences(part: Measurement, found: Inspection) -> Text:
    if part.result is None:
        return Text(f"Not measured. {part.refusal}", style="yellow")
    return Text("\n".join(one.title for one in pictures(part.result, found.lag).values()))


def render_inspection(record: Record, drawings: Sequence[Shown] = ()) -> str:
    """Return the page of results as the text of one HTML file that needs no network."""
    from throughtime.reports.page import page_figure, plotly_bundle, templates

    found = _as_inspection(record)
    parts = [*_parts(found), *([_Part("More", "", tuple(drawings))] if drawings else [])]
    shown = [
        [page_figure(f"picture-{k}-{n}", one) for n, one in enumerate(part.pictures)]
        for k, part in enumerate(parts)
    ]
    figures = {one.name: one.data for part in shown for one in part if not one.empty}
    return (
        templates()
        .get_template("inspection.html")
        .render(
            title=found.model,
            source=found.source,
            parts=[
                {"heading": part.heading, "refusal": part.refusal, "pictures": own}
                for part, own in zip(parts, shown, strict=True)
            ],
            facts=found.facts,
            figures=figures,
            dashes=DASHES,
            plotly=plotly_bundle() if figures else "",
        )
    )


class _Part(NamedTuple):
    heading: str
    refusal: str
    pictures: tuple[Any, ...]


def _parts(found: Inspection) -> Iterator[_Part]:
    for part in found.measurements:
        shown = () if part.result is None else pictures(part.result, found.lag).values()
        heading = TITLES.get(part.instrument, part.instrument)
        yield _Part(f"{heading}, {part.layer}" if part.layer else heading, part.refusal, (*shown,))


def _as_inspection(record: Record) -> Inspection:
    if isinstance(record, Inspection):
        return record
    only = record
    if not isinstance(only, Measurement):
        only = Measurement(type(record).__name__, getattr(record, "layer", ""), record, "", 0.0)
    return Inspection(only.instrument, "", None, (only,), ())
