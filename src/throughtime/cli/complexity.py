"""`throughtime complexity`: the measures of an architecture, and its graph drawn."""

import dataclasses
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from throughtime.cli.arguments import flag, option, parse, position, whole_number
from throughtime.cli.output import show, show_json, show_place

if TYPE_CHECKING:
    from throughtime.wiring import Architecture


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print recurrent depth, feedforward depth and skip coefficient of an architecture (Zhang et
    al. 2016), exactly, with the cycles and the path that show them, and draw its graph."""

    source: str = position(
        "NAME|FILE",
        "sh, st, bu, td, skip, variant-1 to variant-4; or a YAML or JSON file "
        '{"edges": [["input", "h"], ["h", "h", 1], ["h", "output"]]}.',
    )
    lag: int = option(
        "STEPS", "Lag of the skips of a named architecture.", whole_number, default=21, usual="21"
    )
    out: str | None = option("FILE", "The picture.", usual="NAME.svg")
    json: bool = flag("Print one JSON object; no picture but where --out names one.")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "complexity", words)

    from rich.table import Table

    from throughtime.reports.architecture_drawing import architecture_svg, in_words
    from throughtime.results.atomic import write_whole
    from throughtime.wiring import complexity
    from throughtime.wiring.graph import NAMED

    found = _architecture(arguments.source, arguments.lag)
    measured = complexity(found)
    shown = {
        "recurrent depth": (measured.recurrent_depth, measured.deepest_cycle),
        "feedforward depth": (measured.feedforward_depth, measured.longest_path),
        "skip coefficient": (measured.skip_coefficient, measured.fastest_cycle),
    }
    out = arguments.out
    if out is None and not arguments.json:
        out = _file_name(found.name)
    if out is not None:
        write_whole(Path(out), architecture_svg(found, measured).encode())
    if arguments.json:
        document: dict[str, Any] = {"name": found.name, "edges": [str(e) for e in found.edges]}
        for name, (value, edges) in shown.items():
            witness = [str(edge) for edge in edges]
            document[name.replace(" ", "_")] = {"value": str(value), "shown_by": witness}
        show_json(document)
        return 0
    table = Table(title=f"{found.name}: {NAMED[found.name][0]}" if found.name in NAMED else None)
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("shown by")
    for name, (value, edges) in shown.items():
        table.add_row(name, _number(value), in_words(edges))
    show(table)
    show_place("picture", out)
    return 0


def _architecture(source: str, lag: int) -> "Architecture":
    from throughtime.wiring import architecture, read_architecture
    from throughtime.wiring.graph import NAMED

    if source in NAMED or not Path(source).suffix:
        return architecture(source, lag)
    return read_architecture(source)


def _file_name(name: str) -> str:
    """A file of the current folder, whatever the name within a file that was given."""
    plain = re.sub(r"[^\w.+-]+", "-", name).strip("-.")
    return f"{plain[:60] or 'architecture'}.svg"


def _number(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value)
    return f"{value} = {float(value):.3g}"
