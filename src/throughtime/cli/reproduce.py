"""`throughtime reproduce`: a published study, its numbers beside ours."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from throughtime.cli.arguments import flag, option, parse, position, whole_number
from throughtime.cli.output import remark, show, show_json, show_place


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Run a study of the literature, or go on with it, and print the paper's numbers beside ours.
    Without a name, list the studies."""

    name: str = position("NAME", "skip-coefficient, copying-memory ...", "")
    scale: str = option(
        "SCALE",
        "small, the effect within minutes; or full, the paper's.",
        default="small",
        usual="small",
    )
    seeds: int | None = option("N", "Runs of each model.", whole_number, usual="the study's")
    jobs: int | None = option("N", "Runs at a time.", whole_number, usual="one a core")
    data_dir: str | None = option("FOLDER", "Folder of data files, for studies that read some.")
    out: str | None = option("FOLDER", "Folder of the results.", usual="runs/reproduce-NAME-SCALE")
    quiet: bool = flag("Print the result alone: no progress.")
    json: bool = flag("Print the result as one JSON object on stdout; no progress.")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code: 0 also where the effect is not there, which is a result."""
    arguments = parse(Arguments, "reproduce", words)

    from throughtime.cli.progress import progress
    from throughtime.reports.reproduction import reproduction_table
    from throughtime.studies.literature import find_study, reproduce

    if not arguments.name:
        _list(as_json=arguments.json)
        return 0
    _, size = find_study(arguments.name, arguments.scale)
    out = Path(arguments.out or f"runs/reproduce-{arguments.name}-{arguments.scale}")
    if not (arguments.quiet or arguments.json):
        remark(f"{arguments.name}, {arguments.scale}: {size.about}")
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
    show("")
    show_place("page", out / "reproduction.html")
    show_place("runs", out / reports)
    return 0


def _list(*, as_json: bool) -> None:
    from rich.table import Table

    from throughtime.studies.literature import publication, publications

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
