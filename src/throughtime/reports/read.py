"""Results from the folders of finished runs and comparisons, and from files."""

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from throughtime.core.errors import RunError
from throughtime.reports.numbers import plain
from throughtime.results.atomic import read_json
from throughtime.results.comparison import (
    SHORTENED,
    Comparison,
    Curve,
    GradientReach,
    ModelRuns,
    Run,
    TaskFacts,
    When,
    differing,
)
from throughtime.results.fields import from_document, of_type
from throughtime.results.record import Record, read_record
from throughtime.results.samples import Samples
from throughtime.training.config import RunConfig, read_config
from throughtime.training.result import Result
from throughtime.training.run_folder import RunFolder, read_metrics


def load(path: str | Path) -> Comparison | Run | Record:
    """Return a saved result: that of a folder of runs, or of a JSON file that `save` wrote.

    Arguments:
        path: The folder of a comparison or of a finished run; or a JSON file of a Diagnosis, a
            Reproduction, a Comparison, an Inspection, or a result of an instrument.

    Raises:
        RunError: A file is missing or damaged, or its content is no result.
        RunVersionError: A file was written in another version of the format.

    Example:
        >>> import tempfile, torch
        >>> from throughtime.instruments import one_unit_fixed_points
        >>> file = one_unit_fixed_points(2.0).save(f"{tempfile.mkdtemp()}/points.json")
        >>> load(file).kinds
        ('sink', 'source', 'sink')
    """

    path = Path(path)
    if path.is_dir():
        return read_comparison(path) if (path / "compare.json").exists() else read_run(path)
    importlib.import_module("throughtime.instruments")  # which registers the types of its results
    return read_record(path)


def read_comparison(folder: Path) -> Comparison:
    """Read the finished runs of a comparison: all that its folder holds, of all requests.

    Arguments:
        folder: holds compare.json and a folder a run, as `throughtime compare` wrote them.

    Raises:
        RunError: a file is missing or is not what it should be, or no run is finished.
        RunVersionError: written in another version of the format.
    """
    study = read_study(folder / "compare.json")
    runs = _finished_runs(folder)
    noted = {entry.folder: entry for entry in study.models}
    asked = [*noted] if study.asked is None else study.asked
    models = [
        _configuration(name, noted.get(name), runs[name], asked=name in asked)
        for name in [*noted, *sorted(runs.keys() - noted.keys())]
        if name in runs
    ]
    command, commands = study.command, study.commands or (study.command,)
    if not models:
        raise RunError(
            f"{folder} holds no finished run",
            expected="at least one",
            fix=f"Finish one: {command}",
        )
    unfinished = len(run_folders(folder)) - sum(map(len, runs.values()))
    return Comparison(
        folder, command, study.request, study.task, tuple(_told_apart(models)), commands, unfinished
    )


@dataclasses.dataclass(frozen=True)
class NotedModel:
    """A configuration as compare.json has it.

    Attributes:
        label: Name in the request.
        folder: Folder of its runs, below that of the comparison.
        spec: registry text, or None.
        description: one line.
        configuration: the model and its settings; empty in files of earlier versions.
        settings: Settings of a variant, in files of earlier versions.
    """

    label: str
    folder: str
    spec: str | None = None
    description: str = ""
    configuration: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])


@dataclasses.dataclass(frozen=True)
class StudyFile:
    """The content of compare.json.

    Attributes:
        command: the command line of the last request.
        request: its fields.
        task: Task of all configurations.
        models: the configurations, in the order of the requests.
        commands: the command lines of all requests.
        asked: Folders of the configurations of the last request, or None for all.
        seeds: Seeds of the request, in files of earlier versions.
    """

    command: str
    request: Mapping[str, Any]
    task: TaskFacts
    models: tuple[NotedModel, ...]
    commands: tuple[str, ...] = ()
    asked: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = ()


def read_study(file: Path) -> StudyFile:
    """Return the content of a comparison's compare.json.

    Raises:
        RunError: it is missing or is not what it should be.
        RunVersionError: written in another version of the format.
    """
    document = read_json(file)
    with _well_formed(file):
        found = from_document(StudyFile, {**document, "task": _with_metrics(document["task"])})
        asked = found.request.get("models") or []
        if not isinstance(asked, list) or not all(isinstance(model, str) for model in asked):
            raise TypeError(f"request.models is {asked!r}, not names")
        for model in found.models:
            if Path(model.folder).name != model.folder:
                raise TypeError(f"the folder {model.folder!r} is not one of the comparison's")
        return found


def _with_metrics(task: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a task with its metrics, which earlier versions wrote as answer and chance."""
    if "metrics" in task:
        return task
    rest = {k: v for k, v in task.items() if k not in ("answer", "chance", "chance_loss")}
    is_value = of_type(str, task["answer"], "task.answer").startswith("value")
    accuracy = {"name": "accuracy", "unit": "fraction", "better": "higher"}
    loss = {"name": "loss", "unit": "squared error" if is_value else "nats", "better": "lower"}
    chances = [{"chance": task["chance"]}, {"chance": task["chance_loss"], "tables": is_value}]
    return {**rest, "metrics": [accuracy | chances[0], loss | chances[1]]}


def run_folders(folder: Path) -> list[Path]:
    """Return the folders of all runs of a comparison, finished or not, in order."""
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
    folder: str, entry: NotedModel | None, runs: tuple[Run, ...], *, asked: bool
) -> ModelRuns:
    """Return one configuration. Its entry of compare.json holds the name of the request."""
    config = runs[0].config
    settings = RunConfig.from_json(config).settings()
    if entry is None:
        entry = NotedModel(folder, folder)
    spec = entry.spec or config["model"]
    name, said = entry.label, entry.description
    return ModelRuns(name, spec, said, runs, name, settings, asked)


def _told_apart(models: list[ModelRuns]) -> list[ModelRuns]:
    """Return the configurations with labels that differ.

    The first one of a name, or a variant of it, keeps its name. The others of that name get the
    settings in which they differ from it: "gru, steps=3000".
    """
    labels = [_label(model, models, SHORTENED) for model in models]
    if len({*labels}) < len(labels):
        labels = [_label(model, models, ()) for model in models]
    folders = [_facts(model)["folder"] for model in models]
    alike = [labels.count(label) > 1 for label in labels]
    return [
        dataclasses.replace(model, label=f"{label}, folder={folder}" if same else label)
        for model, label, folder, same in zip(models, labels, folders, alike, strict=True)
    ]


def _label(model: ModelRuns, models: list[ModelRuns], left_out: tuple[str, ...]) -> str:
    variants = f"{model.name}, "
    first = next(o for o in models if o.name == model.name or o.name.startswith(variants))
    mine, usual = _facts(model), _facts(first)
    told = [name for name in differing([mine, usual]) if name not in ("folder", *left_out)]
    return ", ".join([model.name, *(f"{name}={plain(mine[name])}" for name in told)])


def _facts(model: ModelRuns) -> dict[str, Any]:
    """The model, its settings, and its folder, which no other configuration has."""
    return {"model": model.spec, **model.settings, "folder": model.runs[0].folder.parent.name}


def read_run(folder: Path) -> Run:
    """Read a finished run; gradient_flow.json and samples.json only if they are there.

    Raises:
        RunError: a file is missing or is not what it should be.
        RunVersionError: written in another version of the format.
    """
    files = RunFolder(folder)
    config = read_config(folder)
    result = Result.from_json(read_json(files.result), str(files.result))
    flow_file = folder / "gradient_flow.json"
    flow = read_json(flow_file) if flow_file.exists() else None
    with _well_formed(flow_file):
        gradient = None if flow is None else _read_flow(flow)
    samples_file = folder / "samples.json"
    drawn = read_json(samples_file) if samples_file.exists() else None
    with _well_formed(samples_file):
        samples = None if drawn is None else _read_samples(drawn)
    with _well_formed(files.metrics):
        curve = _read_curve(folder, result.metrics[0].name)
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
            curve=curve,
            gradient=gradient,
            config=config.to_json(),
            environment=dataclasses.asdict(result.environment),
            samples=samples,
        )


def _read_samples(document: Mapping[str, Any]) -> Samples:
    fields = {name: document[name] for name in ("texts", "attention", "images")}
    for name in ("drawings", "memories"):  # files of earlier versions have none
        if name in document:
            fields[name] = document[name]
    return from_document(Samples, fields, "samples")


def _read_flow(document: Mapping[str, Any]) -> Mapping[When, GradientReach]:
    times: tuple[When, ...] = ("start", "trained")
    flow: dict[When, GradientReach] = {
        when: from_document(GradientReach, document[when], when) for when in times
    }
    if len({len(n) for f in flow.values() for n in (f.norm_by_lag, f.contribution_by_lag)}) != 1:
        raise TypeError("its lists are not equally long")
    return flow


def _read_curve(folder: Path, headline: str) -> Curve:
    rows = [row for row in read_metrics(folder) if row.get("kind") == "validation"]
    kinds = (("step", int), ("loss", float), (headline, float))
    columns = (tuple(of_type(kind, row[n], n) for row in rows) for n, kind in kinds)
    return Curve(*columns)


@contextlib.contextmanager
def _well_formed(file: Path) -> Iterator[None]:
    """Turn an error in the content of a file into a RunError that names the file."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{file} is not what throughtime writes",
            got=f"{type(error).__name__}: {error}",
            fix="Bring the file back from a copy, or rename the folder and run the same command "
            "again.",
        ) from error
