"""Run a published study, or go on with it, and put the paper's numbers beside ours."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

from throughtime.core.errors import UnknownNameError
from throughtime.reports.reproduction import render_reproduction, reproduction_markdown
from throughtime.results.atomic import write_whole
from throughtime.results.comparison import Comparison, ModelRuns, Spread, spread
from throughtime.results.reproduction import Checked, Measured, Reproduction
from throughtime.studies.catalogue import Publication, Scale, publication
from throughtime.studies.compare import compare
from throughtime.studies.events import StudyObserver
from throughtime.studies.request import CompareRequest
from throughtime.studies.specs import slug
from throughtime.training import write_json


def reproduce(
    name: str,
    out: str | Path,
    *,
    scale: str = "small",
    seeds: int | None = None,
    jobs: int | None = None,
    data_dir: str | None = None,
    observer: StudyObserver | None = None,
) -> Reproduction:
    """Run a published study.

    Arguments:
        name: name in `publications`.
        out: folder of the results: the comparison's, or one within it for each part, with
            reproduction.json, reproduction.md and reproduction.html.
            The same call goes on with what was interrupted.
        scale: "small" keeps the effect within minutes; "full" is the paper's, as far as known.
        seeds: number of seeds; the study's own if None.
        jobs: runs at a time; one a core if None.
        data_dir: local folder for data files.
        observer: function that takes the events.

    Returns:
        The table, and whether the effect is there.

    Raises:
        UnknownNameError: no such study or scale.
        DataError, RunError, RunInterrupted: as `compare`.
    """
    study, size = find_study(name, scale)
    out = Path(out)
    comparisons = {
        name: compare(
            _asked(request, seeds=seeds, jobs=jobs, data_dir=data_dir), out / slug(name), observer
        )
        for name, request in size.parts.items()
    }
    found = read_off(study, scale, comparisons)
    write_json(out / "reproduction.json", found.to_json())
    write_whole(out / "reproduction.md", reproduction_markdown(found).encode())
    reports = {part: f"{slug(part)}/report.html".lstrip("/") for part in comparisons}
    write_whole(out / "reproduction.html", render_reproduction(found, reports).encode())
    return found


def find_study(name: str, scale: str) -> tuple[Publication, Scale]:
    """A study and one of its scales.

    Arguments:
        name, scale: names of the study and the scale.

    Raises:
        UnknownNameError: no such study or scale.
    """
    study = publication(name)
    if scale not in study.scales:
        raise UnknownNameError(f"scale of {name}", scale, study.scales)
    return study, study.scales[scale]


def _asked(
    request: CompareRequest, *, seeds: int | None, jobs: int | None, data_dir: str | None
) -> CompareRequest:
    return dataclasses.replace(
        request, seeds=request.seeds if seeds is None else seeds, jobs=jobs, data_dir=data_dir
    )


def read_off(study: Publication, scale: str, comparisons: Mapping[str, Comparison]) -> Reproduction:
    """The paper's numbers beside those of comparisons.

    Arguments:
        study: study that was run.
        scale: name of its scale.
        comparisons: the results, by part.
    """
    size = study.scales[scale]
    models = {
        (part, model.name): model
        for part, comparison in comparisons.items()
        for model in comparison.models
        if model.asked
    }
    first, *_ = comparisons.values()
    runs = [run for comparison in comparisons.values() for run in comparison.runs]
    rows = tuple(
        Measured(
            label=row.label,
            model=models[row.part, row.model].spec,
            paper=row.paper,
            expected=row.expected,
            ours=_quantity(study, comparisons[row.part], models[row.part, row.model]),
            diverged=sum(run.status == "diverged" for run in models[row.part, row.model].runs),
            seconds=sum(run.seconds for run in models[row.part, row.model].runs),
        )
        for row in size.rows
    )
    means = {row.label: row.ours.mean for row in rows if row.ours is not None}
    environment = first.runs[0].environment
    return Reproduction(
        name=study.name,
        title=study.title,
        source=study.source,
        effect=study.effect,
        differs=study.differs,
        quantity=study.quantity,
        scale=f"{scale} ({size.about})",
        rows=rows,
        checks=tuple(
            Checked(
                statement=check.statement,
                kind=check.kind,
                of=check.of,
                value=check.value(means) if all(label in means for label in check.of) else None,
                bound=check.bound,
                holds=check.holds(means),
            )
            for check in size.checks
        ),
        seeds=len(first.models[0].runs),
        seconds=sum(run.seconds for run in runs),
        commit=str(environment.get("commit") or environment.get("throughtime")),
        device=str(environment.get("device")),
    )


def _quantity(study: Publication, comparison: Comparison, model: ModelRuns) -> Spread | None:
    if study.quantity == "solved":
        return spread(float(run.status == "solved") for run in model.runs)
    found = model.test("accuracy" if study.quantity == "accuracy" else "loss")
    factor = 1.0
    if study.quantity == "loss over chance":
        factor = 1 / (comparison.task.chance("loss") or math.nan)
    if study.quantity == "bits":
        factor = 1 / math.log(2)
    if found is None or factor == 1.0:
        return found
    values = [run.test["loss"] * factor for run in model.finished if run.test is not None]
    return spread(values)
