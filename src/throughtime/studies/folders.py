"""The folders of a comparison: one for each configuration, whatever call made it.

A configuration is a model with the settings of its training. It is found again by its content, not
by the name of its folder, so that nothing is trained twice and nothing is overwritten.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from throughtime.core.errors import RunMismatchError
from throughtime.reports.read import read_study as read_comparison_file
from throughtime.reports.read import run_folders
from throughtime.results.comparison import SHORTENED, differing
from throughtime.studies.plan import Plan, PlannedModel, PlannedRun
from throughtime.studies.specs import slug
from throughtime.training import RunConfig, RunFolder, read_json

Configuration = Mapping[str, Any]
"""The model's registry text, and the settings of its training."""

_LONGEST_NAME = 150


def read_study(out: Path) -> dict[str, Any]:
    """The content of compare.json; empty where there is none.

    Arguments:
        out: the folder of the comparison.
    """
    file = out / "compare.json"
    if not file.exists():
        return {}
    read_comparison_file(file)  # or it is refused
    return read_json(file)


def placed(plan: Plan, out: Path) -> Plan:
    """The plan with the folders that its configurations have, or get, in a comparison's folder.

    Arguments:
        plan: plan with the folders that its configurations have where nothing else is there.
        out: the folder of the comparison. Nobody else may choose folders in it at the same time.

    Raises:
        RunMismatchError: the folder holds a single run, or a comparison on another task.
        RunError: a file of the folder is damaged.
    """
    study = read_study(out)
    _check_folder(plan, study, out)
    taken: dict[str, Configuration] = {
        entry["folder"]: entry["configuration"]
        for entry in study.get("models", ())
        if "configuration" in entry
    }
    taken |= {run.parent.name: configuration(stored(run)) for run in run_folders(out)}
    models: list[PlannedModel] = []
    runs: dict[PlannedRun, PlannedRun] = {}
    for model in plan.models:
        mine = [run for run in plan.runs if run.folder.parent.name == model.folder]
        wanted = configuration(mine[0].config)
        there = [name for name, other in taken.items() if other == wanted]
        folder = there[0] if there else _free_name(model.folder, wanted, taken)
        taken[folder] = wanted
        models.append(dataclasses.replace(model, folder=folder))
        for run in mine:
            runs[run] = dataclasses.replace(run, folder=Path(folder) / run.folder.name)
    return dataclasses.replace(
        plan, models=tuple(models), runs=tuple(runs[run] for run in plan.runs)
    )


def configuration(config: RunConfig) -> Configuration:
    """The configuration that a run belongs to.

    Arguments:
        config: configuration of the run.
    """
    return {"model": config.model, **config.settings()}


def stored(run: Path) -> RunConfig:
    """The configuration that a run's folder holds.

    Arguments:
        run: the folder.

    Raises:
        RunError: there is none, or it is damaged.
    """
    file = RunFolder(run).config
    return RunConfig.from_json(read_json(file), str(file))


def _check_folder(plan: Plan, study: Mapping[str, Any], out: Path) -> None:
    if RunFolder(out).config.exists():
        raise RunMismatchError(
            f"{out} holds a single run",
            expected="the folder of a comparison",
            fix="Choose another folder for the results.",
        )
    there = study.get("task", {}).get("spec", plan.task_spec)
    if there != plan.task_spec:
        raise RunMismatchError(
            f"{out} holds a comparison on another task",
            got=plan.task_spec,
            expected=there,
            fix="Choose another folder for the results.",
        )


def _free_name(name: str, wanted: Configuration, taken: Mapping[str, Configuration]) -> str:
    """Return a name that no other configuration has, with the settings that differ."""
    if name in taken:
        told = [n for n in differing([wanted, taken[name]]) if n not in SHORTENED]
        settings = slug("-".join(f"{setting}-{wanted.get(setting)}" for setting in told))
        name = f"{name}-{settings}"[:_LONGEST_NAME]
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(free for free in (name, *numbered) if free not in taken)
