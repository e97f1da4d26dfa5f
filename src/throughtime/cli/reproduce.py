"""`throughtime reproduce`: a published study, its numbers beside ours."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from throughtime.cli.arguments import option, parse
from throughtime.cli.output import error_console, show, show_json
from throughtime.cli.progress import progress
from throughtime.reports.reproduction import reproduction_table
from throughtime.studies.catalogue import publication, publications
from throughtime.studies.reproduce import find_study, reproduce


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Run a study of the literature, or go on with it, and print the paper's numbers beside ours.
    Without a name, list the studies."""

    name: Annotated[tyro.conf.Positional[str], option("NAME", "")] = ""
    """skip-coefficient, copying-memory ..."""
    scale: Annotated[str, option("SCALE", "small")] = "small"
    """small, the effect within minutes; or full, the paper's."""
    seeds: Annotated[int | None, option("N", "the study's")] = None
    """Runs of each model."""
    jobs: Annotated[int | None, option("N", "one a core")] = None
    """Runs at a time."""
    data_dir: Annotated[str | None, option("FOLDER", "")] = None
    """Folder of data files, for studies that read some."""
    out: Annotated[Path | None, option("FOLDER", "runs/reproduce-NAME-SCALE")] = None
    """Folder of the results."""
    quiet: Annotated[bool, option(None, "")] = False
    """Print the result alone: no progress."""
    json: Annotated[bool, option(None, "")] = False
    """Print the result as one JSON object on stdout; no progress."""


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code: 0 also where the effect is not there, which is a result."""
    arguments = parse(Arguments, "reproduce", words)
    if not arguments.name:
        _list(as_json=arguments.json)
        return 0
    _, size = find_study(arguments.name, arguments.scale)
    out = arguments.out or Path("runs") / f"reproduce-{arguments.name}-{arguments.scale}"
    if not (arguments.quiet or arguments.json):
        error_console().print(f"{arguments.name}, {arguments.scale}: {size.about}")
    with progress(quiet=arguments.quiet or arguments.json) as observer:
        found = reproduce(
            arguments.name,
            out,
            scale=arguments.scale,
            seeds=arguments.seeds,
            jobs=arguments.jobs,
            data_dir=arguments.data_dir,
            observer=observer,
        )
    if arguments.json:
        show_json(found.to_json())
        return 0
    show(reproduction_table(found))
    reports = "report.html" if list(size.parts) == [""] else "*/report.html"
    show(f"\npage: {out / 'reproduction.html'}\nruns: {out / reports}")
    return 0


def _list(*, as_json: bool) -> None:
    found = [publication(name) for name in publications()]
    if as_json:
        show_json({study.name: dataclasses.asdict(study) for study in found})
        return
    table = Table()
    for column in ("study", "what is seen", "scales"):
        table.add_column(column)
    for study in found:
        scales = "\n".join(f"{name}: {size.about}" for name, size in study.scales.items())
        table.add_row(study.name, f"{study.title}\n{study.source}", scales)
    show(table)
