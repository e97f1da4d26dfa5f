"""The model, the vocabularies and the kinds of a run, for generation: no training data is read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from throughtime.core.errors import DataError, RunError, RunMismatchError
from throughtime.models import build_model
from throughtime.results.atomic import read_json, write_json
from throughtime.tasks import kinds
from throughtime.tasks.task import Task
from throughtime.tasks.vocabulary import Vocabulary
from throughtime.training.checkpoint import load_weights
from throughtime.training.config import read_config
from throughtime.training.reproducibility import reproducible, run_device
from throughtime.training.run_folder import RunFolder


class Generator(NamedTuple):
    """A trained model that generates.

    Attributes:
        model: model on the CPU, in evaluation mode.
        vocabularies: vocabularies by name: "text"; "source" and "target"; none without text.
        inputs: kind of the inputs of the run's task.
    """

    model: nn.Module
    vocabularies: dict[str, Vocabulary]
    inputs: kinds.Inputs


def vocabularies_of(task: Task) -> Mapping[str, Vocabulary]:
    """Return the vocabularies of a task by name; none for a task without text."""
    return getattr(task, "vocabularies", {})


def write_vocabularies(files: RunFolder, task: Task) -> None:
    """Write the task's vocabularies and kinds into the folder of a run, or check those in it.

    A task whose answers are no likelihood has nothing to generate.

    Raises:
        RunMismatchError: the folder has other vocabularies.
        RunWriteError: the folder cannot be written.
    """
    vocabularies = vocabularies_of(task)
    if not vocabularies and not isinstance(task.answers, kinds.Likelihood):
        return
    document = {
        "inputs": _kind_document(task.inputs),
        "answers": _kind_document(task.answers),
        "vocabularies": {name: each.to_json() for name, each in vocabularies.items()},
    }
    if not files.vocabulary.exists():
        write_json(files.vocabulary, document)
    elif read_json(files.vocabulary) != document:
        raise RunMismatchError(
            f"{files.path} was trained with another vocabulary, or on data of another size",
            got=", ".join(f"{len(each)} symbols" for each in vocabularies.values())
            or str(task.inputs),
            expected=f"the symbols and sizes in {files.vocabulary.name}",
            fix="Bring the data back as they were, or choose another folder.",
        )


def load_generator(folder: str | Path) -> Generator:
    """Return the trained model of a run, its vocabularies and the kind of its inputs.

    Arguments:
        folder: folder of the run, finished or not.

    Raises:
        RunError: there is no run, no checkpoint yet, one that is damaged, or one whose model
            generates nothing.
        RunVersionError: it was written in another version of the format.
        RunMismatchError: vocabulary and checkpoint do not fit each other.
    """
    files = RunFolder(Path(folder))
    config = read_config(files.path)
    if not files.vocabulary.exists():
        raise RunError(
            f"{folder} has nothing to generate",
            got=f"a run of model {config.model!r} on task {config.task!r}",
            expected="a run on a text or on images, such as text or binarized-mnist",
            fix=f"This run can be measured: throughtime inspect {folder}.",
        )
    document = read_json(files.vocabulary)
    try:
        vocabularies = {
            str(name): Vocabulary.from_json(each) for name, each in document["vocabularies"].items()
        }
        inputs, answers = (_kind(document[name]) for name in ("inputs", "answers"))
    except (KeyError, TypeError, AttributeError, DataError) as error:
        raise RunError(
            f"{files.vocabulary} is damaged",
            got=f"{type(error).__name__}: {error}",
            expected="vocabularies and kinds as they were written",
            fix="Bring the file back, or train the run again: it writes the file anew.",
        ) from error
    with reproducible(run_device("cpu"), config.threads, config.seed):
        model = build_model(config.model, inputs, answers)
    load_weights(model, files, config)
    return Generator(model.eval(), vocabularies, inputs)


def _kind_document(kind: Any) -> dict[str, Any]:
    """Return a kind of inputs or answers as JSON values."""
    fields = {f.name: getattr(kind, f.name) for f in dataclasses.fields(kind)}
    document = {
        name: _kind_document(value) if dataclasses.is_dataclass(value) else value
        for name, value in fields.items()
    }
    return {"type": type(kind).__name__, **document}


def _kind(document: Any) -> Any:
    """Return the kind whose document it is; KeyError or TypeError for another document."""
    known: dict[str, Any] = {
        name: each for name, each in vars(kinds).items() if dataclasses.is_dataclass(each)
    }
    fields = {
        name: _kind(value) if isinstance(value, dict) else value
        for name, value in document.items()
        if name != "type"
    }
    return known[document["type"]](**fields)
