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
)
from throughtime.training.atomic import read_json
from throughtime.training.config import RunConfig
from throughtime.training.result import Result
from throughtime.training.run_folder import RunFolder, read_metrics


def read_comparison(folder: Path) -> Comparison:
    """Read a finished comparison.

    Arguments:
        folder: holds compare.json and a folder a run, as `throughtime compare` wrote them.

    Raises:
        RunError: a file is missing or is not what it should be, or a run is not finished.
        RunVersionError: written in another version of the format.
    """
    file = folder / "compare.json"
    study = read_json(file)
    with _well_formed(file):
        task = TaskFacts(**study["task"])
        models = tuple(
            ModelRuns(
                model["label"],
                model["spec"],
                model["description"],
                tuple(
                    read_run(folder / model["folder"] / f"seed-{seed}") for seed in study["seeds"]
                ),
            )
            for model in study["models"]
        )
        return Comparison(folder, study["command"], study["request"], task, models)


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
            fix="Delete the folder and run the same command again.",
        ) from error
