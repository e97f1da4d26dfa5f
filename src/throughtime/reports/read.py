"""Reads the folders of finished runs and comparisons. Never trains, never measures."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from throughtime.core.errors import RunError
from throughtime.reports.comparison import (
    Comparison,
    Curve,
    GradientReach,
    ModelRuns,
    Run,
    TaskFacts,
    differing,
)
from throughtime.training.atomic import read_json
from throughtime.training.config import RunConfig
from throughtime.training.result import Result
from throughtime.training.run_folder import RunFolder, read_metrics


def read_comparison(folder: Path) -> Comparison:
    """Read the finished runs of a comparison: all that its folder holds, of all requests.

    Arguments:
        folder: holds compare.json and a folder a run, as `throughtime compare` wrote them.

    Raises:
        RunError: a file is missing or is not what it should be, or no run is finished.
        RunVersionError: written in another version of the format.
    """
    file = folder / "compare.json"
    study = read_json(file)
    runs = _finished_runs(folder)
    with _well_formed(file):
        task = TaskFacts(**study["task"])
        noted = {entry["folder"]: entry for entry in study["models"]}
        asked = study.get("asked", [*noted])
        models = [
            _configuration(name, noted.get(name, {}), runs[name], asked=name in asked)
            for name in [*noted, *sorted(runs.keys() - noted.keys())]
            if name in runs
        ]
        command = study["command"]
        commands, request = tuple(study.get("commands", [command])), study["request"]
    if not models:
        raise RunError(
            f"{folder} holds no finished run",
            expected="at least one",
            fix=f"Finish one: {command}",
        )
    unfinished = len(run_folders(folder)) - sum(map(len, runs.values()))
    return Comparison(
        folder, command, request, task, tuple(_told_apart(models)), commands, unfinished
    )


def run_folders(folder: Path) -> list[Path]:
    """The folders of all runs of a comparison, finished or not, by configuration and seed.

    Arguments:
        folder: of the comparison.
    """
    found = [file.parent for file in folder.glob("*/seed-*/config.json")]
    return sorted(found, key=lambda run: (run.parent.name, len(run.name), run.name))


def _finished_runs(folder: Path) -> dict[str, tuple[Run, ...]]:
    found: dict[str, tuple[Run, ...]] = {}
    for run in run_folders(folder):
        if RunFolder(run).result.exists():
            name = run.parent.name
            found[name] = (*found.get(name, ()), read_run(run))
    return found


def _configuration(
    folder: str, entry: Mapping[str, Any], runs: tuple[Run, ...], *, asked: bool
) -> ModelRuns:
    """One configuration. Its entry of compare.json has the name that it was asked for by."""
    config = runs[0].config
    name = entry.get("label", folder)
    settings = RunConfig.from_json(config).settings()
    spec = entry.get("spec", config["model"])
    return ModelRuns(name, spec, entry.get("description", ""), runs, name, settings, asked)


def _told_apart(models: list[ModelRuns]) -> Iterator[ModelRuns]:
    """The configurations with labels that differ.

    Several of one name get as few of their settings as tell them apart: "gru, steps=3000". So does
    a model beside variants of it.
    """
    for model in models:
        alike = [o for o in models if o.name == model.name or o.name.startswith(f"{model.name}, ")]
        told: list[str] = []
        while len(alike) > 1:
            name, value = _best_difference(model, alike)
            told.append(f"{name}={value}")
            alike = [other for other in alike if _facts(other).get(name) == value]
        yield dataclasses.replace(model, label=", ".join([model.name, *told]))


def _best_difference(model: ModelRuns, others: list[ModelRuns]) -> tuple[str, object]:
    """The setting that tells a configuration from most of the others; else its folder."""
    mine = _facts(model)
    excluded = {
        name: sum(_facts(other)[name] != mine[name] for other in others)
        for name in differing([_facts(other) for other in others])
    }
    settings = [name for name in excluded if name != "folder"] or ["folder"]
    best = max(settings, key=lambda name: excluded[name])
    return best, mine[best]


def _facts(model: ModelRuns) -> dict[str, Any]:
    """The model, its settings, and its folder, which no other configuration has."""
    return {"model": model.spec, **model.settings, "folder": model.runs[0].folder.parent.name}


def read_run(folder: Path) -> Run:
    """Read a finished run; its gradient_flow.json only if it is there.

    Raises:
        RunError: a file is missing or is not what it should be.
        RunVersionError: written in another version of the format.
    """
    files = RunFolder(folder)
    config = RunConfig.from_json(read_json(files.config), str(files.config))
    result = Result.from_json(read_json(files.result), str(files.result))
    flow_file = folder / "gradient_flow.json"
    flow = read_json(flow_file) if flow_file.exists() else None
    with _well_formed(folder):
        return Run(
            folder=folder,
            seed=config.seed,
            status=result.status,
            step=result.step,
            seconds=result.seconds,
            parameters=result.parameters,
            test=result.test,
            diverged=dataclasses.asdict(result.diverged) if result.diverged else None,
            curve=_read_curve(folder),
            gradient=None
            if flow is None
            else {"start": _read_flow(flow["start"]), "trained": _read_flow(flow["trained"])},
            config=config.to_json(),
            environment=dataclasses.asdict(result.environment),
        )


def _read_flow(flow: Mapping[str, Any]) -> GradientReach:
    return GradientReach(
        tuple(flow["norm_by_lag"]), tuple(flow["contribution_by_lag"]), flow["reach"]
    )


def _read_curve(folder: Path) -> Curve:
    rows = [row for row in read_metrics(folder) if row["kind"] == "validation"]
    columns = ([row[name] for row in rows] for name in ("step", "loss", "accuracy"))
    return Curve(*(tuple(column) for column in columns))  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def _well_formed(file: Path) -> Iterator[None]:
    """Turn what goes wrong while content is taken apart into an error that names the file."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{file} is not what throughtime writes",
            got=f"{type(error).__name__}: {error}",
            fix="Bring the file back from a copy, or rename the folder and run the same command "
            "again.",
        ) from error
