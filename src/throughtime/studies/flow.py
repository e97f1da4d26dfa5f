"""The reach of a run's gradient, before and after training, kept in its folder."""

from pathlib import Path

import torch
from torch import nn

from throughtime.core.errors import DataError
from throughtime.core.scoring import Batch
from throughtime.instruments import gradient_flow
from throughtime.tasks.task import Task
from throughtime.training import RunFolder, load_model, read_json, write_json
from throughtime.training.reproducibility import reproducible

BATCH_SIZE = 64


def measure_gradient_flow(folder: Path) -> None:
    """Measure a run's gradient flow before and after training and write gradient_flow.json.

    What arrives before the first update is what learning begins with; after training, what the
    network made of it. Nothing is done if the file is there, unless the run has gone on since.

    The loss is that of the first 64 validation sequences, the same for all models of a task; where
    answers are due at several steps, of each sequence's last answer alone, so that a lag is
    a distance from the answer. In float64, so that a vanishing gradient does not underflow.

    Arguments:
        folder: folder of a run that did not diverge.

    Raises:
        RunLockedError: another process writes the run now.
        RunError: the folder holds no trained run, or cannot be written.
    """
    file, step = folder / "gradient_flow.json", RunFolder(folder).latest_step()
    if file.exists() and read_json(file).get("step", step) == step:
        return
    with RunFolder(folder).locked():
        config, task, start = load_model(folder, trained=False)
        _, _, trained = load_model(folder)
        with reproducible(torch.device("cpu"), config.threads, config.seed):
            batch = _held_out(task)
            flows = {"start": _flow(start, task, batch), "trained": _flow(trained, task, batch)}
        facts = {"dependency_length": task.dependency_length, "step": step}
        write_json(file, {**facts, **flows})


def _flow(model: nn.Module, task: Task, batch: Batch) -> dict[str, object]:
    model.double().eval()
    flow = gradient_flow(model, lambda: task.score(model, batch).loss)
    return {
        "norm_by_lag": flow.norm_by_lag.tolist(),
        "contribution_by_lag": flow.contribution_by_lag.tolist(),
        "reach": flow.reach(),
    }


def _held_out(task: Task) -> Batch:
    batch = next(task.batches("validation", BATCH_SIZE), None)
    if batch is None:
        raise DataError(f"task {task.name} has no validation sequences")
    return task.last_answers(batch)
