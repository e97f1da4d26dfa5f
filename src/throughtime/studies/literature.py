"""Published studies: a folder with a study.json each, and the paper's numbers beside ours."""

import dataclasses
import itertools
import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.registry import slug
from throughtime.reports.reproduction import render_reproduction, reproduction_markdown
from throughtime.results.atomic import write_whole
from throughtime.results.comparison import Comparison, ModelRuns, spread
from throughtime.results.reproduction import Checked, Measured, Reproduction
from throughtime.studies.compare import compare
from throughtime.studies.request import CompareRequest, Variant
from throughtime.studies.worker import StudyObserver
from throughtime.training import write_json

FOLDER = Path(__file__).parent / "published"

_DERIVED = ("loss over chance", "bits", "solved")
"""Quantities beside the metrics of the test set: the loss over that of the best answer that
remembers nothing, or in bits; or the share of runs that met the task's criterion."""

Kind: TypeAlias = Literal["difference", "ratio", "order", "below", "above"]
"""a - b and a / b at least the bound; each at least the bound above the one before; a below or
above the bound."""

Statistic: TypeAlias = Literal["mean", "median"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One number of the paper, and the model that stands for it here.

    Attributes:
        label: label in the paper.
        model: its label in the comparison: registry text, and ", variant" where there are several.
        paper: its number; None where there is none to compare with.
        expected: the range in which ours is expected; None where none is known.
        part: part of the scale in which the model is.
        quantity: quantity of the row, if it is not that of the table.
        kept: metric whose lowest value chooses one of the seeds, the first one of equals; "" for
            all seeds.
    """

    label: str
    model: str
    paper: float | None
    expected: tuple[float, float] | None
    part: str = ""
    quantity: str = ""
    kept: str = ""


@dataclasses.dataclass(frozen=True)
class Check:
    """A part of the effect, as a condition on the means, or medians, of rows.

    Attributes:
        statement: the condition in words.
        kind: comparison of the rows.
        of: labels of rows.
        bound: number of `Kind`.
        quantity: quantity of the rows, if it is not that of the table.
        statistic: number that stands for the seeds of a row.
    """

    statement: str
    kind: Kind
    of: tuple[str, ...]
    bound: float
    quantity: str = ""
    statistic: Statistic = "mean"

    def value(self, means: Mapping[str, float]) -> float:
        """Return the number that is compared with the bound: the least rise, for "order"."""
        values = [means[label] for label in self.of]
        if self.kind == "difference":
            return values[0] - values[1]
        if self.kind == "ratio":
            if values[1] == 0:
                return math.inf if values[0] > 0 else math.nan
            return values[0] / values[1]
        if self.kind == "order":
            return min(b - a for a, b in itertools.pairwise(values))
        return values[0]

    def holds(self, means: Mapping[str, float]) -> bool:
        """Return True if the condition is met; False where a mean is missing or not a number."""
        if any(label not in means for label in self.of):
            return False
        value = self.value(means)
        return value <= self.bound if self.kind == "below" else value >= self.bound


@dataclasses.dataclass(frozen=True)
class Scale:
    """One size at which a study can be run.

    Attributes:
        about: content and cost.
        parts: the comparisons by name; "" for the only one.
        rows: rows of the table.
        checks: conditions of the effect.
        quantity: quantity of the table, if it is not that of the study.
    """

    about: str
    parts: Mapping[str, CompareRequest]
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    quantity: str = ""


@dataclasses.dataclass(frozen=True)
class Publication:
    """A study.

    Attributes:
        name: name of its folder.
        title: the effect in a line.
        source: paper and table.
        effect: expected result, in a sentence.
        differs: known differences from the paper.
        quantity: quantity of the table: a metric of the test set, such as "loss", "accuracy" or
            "bleu"; or "loss over chance", "bits", "solved".
        scales: sizes by name, "small" and "full".
    """

    name: str
    title: str
    source: str
    effect: str
    differs: str
    quantity: str
    scales: Mapping[str, Scale]


def publications() -> list[str]:
    """The names of all studies.

    Example:
        >>> "skip-coefficient" in publications()
        True
    """
    return sorted(path.parent.name for path in FOLDER.glob("*/study.json"))


def publication(name: str) -> Publication:
    """A study by name.

    Arguments:
        name: name in `publications`.

    Raises:
        UnknownNameError: no such study.
    """
    if name not in publications():
        raise UnknownNameError("study", name, publications())
    document: dict[str, Any] = json.loads((FOLDER / name / "study.json").read_text())
    scales = {key: _scale(scale) for key, scale in document["scales"].items()}
    fields = ("title", "source", "effect", "differs", "quantity")
    return Publication(name, scales=scales, **{field: document[field] for field in fields})


def _request(asked: dict[str, Any]) -> CompareRequest:
    variants = asked.get("variants", {})
    return CompareRequest(
        **{
            **asked,
            "models": tuple(asked["models"]),
            "variants": tuple(Variant(name, settings) for name, settings in variants.items()),
        }
    )


def _scale(document: dict[str, Any]) -> Scale:
    parts = document.get("comparisons") or {"": document["comparison"]}
    rows = tuple(
        Row(
            row["label"],
            row["model"],
            row["paper"],
            None if row["expected"] is None else (row["expected"][0], row["expected"][1]),
            row.get("part", ""),
            row.get("quantity", ""),
            row.get("kept", ""),
        )
        for row in document["rows"]
    )
    checks = tuple(
        Check(
            check["statement"],
            check["kind"],
            tuple(check["of"]),
            check["bound"],
            check.get("quantity", ""),
            check.get("statistic", "mean"),
        )
        for check in document["checks"]
    )
    requests = {name: _request(asked) for name, asked in parts.items()}
    return Scale(document["about"], requests, rows, checks, document.get("quantity", ""))


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
    """The paper's numbers beside those of comparisons."""
    size = study.scales[scale]
    usual = size.quantity or study.quantity
    models = {
        (part, model.name): model
        for part, comparison in comparisons.items()
        for model in comparison.models
        if model.asked
    }
    first, *_ = comparisons.values()
    runs = [run for comparison in comparisons.values() for run in comparison.runs]

    def over_seeds(row: Row, quantity: str = "") -> list[float]:
        of = comparisons[row.part], models[row.part, row.model]
        return _quantity(quantity or row.quantity or usual, *of, row.kept)

    def middles(check: Check) -> dict[str, float]:
        middle = statistics.median if check.statistic == "median" else statistics.fmean
        found = {row.label: over_seeds(row, check.quantity) for row in size.rows}
        return {label: middle(values) for label, values in found.items() if values}

    rows = tuple(
        Measured(
            label=row.label,
            model=models[row.part, row.model].spec,
            paper=row.paper,
            expected=row.expected,
            ours=spread(over_seeds(row)),
            diverged=sum(run.status == "diverged" for run in models[row.part, row.model].runs),
            seconds=sum(run.seconds for run in models[row.part, row.model].runs),
        )
        for row in size.rows
    )
    environment = first.runs[0].environment
    return Reproduction(
        name=study.name,
        title=study.title,
        source=study.source,
        effect=study.effect,
        differs=study.differs,
        quantity=usual,
        scale=f"{scale} ({size.about})",
        rows=rows,
        checks=tuple(_checked(check, middles(check)) for check in size.checks),
        seeds=len(first.models[0].runs),
        seconds=sum(run.seconds for run in runs),
        commit=str(environment.get("commit") or environment.get("throughtime")),
        device=str(environment.get("device")),
    )


def _checked(check: Check, means: Mapping[str, float]) -> Checked:
    known = all(label in means for label in check.of)
    return Checked(
        statement=check.statement,
        kind=check.kind,
        of=check.of,
        value=check.value(means) if known else None,
        bound=check.bound,
        holds=check.holds(means),
        quantity=check.quantity,
    )


def _quantity(
    quantity: str, comparison: Comparison, model: ModelRuns, kept: str = ""
) -> list[float]:
    """Return a quantity of each seed, or of the one seed with the lowest value of a metric.

    Raises:
        ConfigurationError: the test set has no such metric.
    """
    if quantity == "solved":
        return [float(run.status == "solved") for run in model.runs]
    factor = 1.0
    if quantity == "loss over chance":
        factor = 1 / (comparison.task.chance("loss") or math.nan)
    if quantity == "bits":
        factor = 1 / math.log(2)
    name = "loss" if quantity in _DERIVED else quantity
    values = [run.test for run in model.finished if run.test is not None]
    for wanted in filter(None, (name, kept)):
        if any(wanted not in test for test in values):
            got, known = kept if wanted == kept else quantity, [*values[0], *_DERIVED]
            raise ConfigurationError("quantity of a study", got=got, expected=", ".join(known))
    if kept and values:
        values = [min(values, key=lambda test: test[kept])]
    return [test[name] * factor for test in values]
