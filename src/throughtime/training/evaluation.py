"""Metrics on held-out data."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.errors import DataError
from throughtime.core.scoring import Batch, Mean, merged
from throughtime.core.state import map_state
from throughtime.tasks.task import Task
from throughtime.training.reproducibility import preserved_randomness

EVALUATION_BATCH_SIZE = 128
"""Items at once; a constant, so that no result depends on the batch size of the training."""


def evaluate(
    model: nn.Module, task: Task, batches: Iterable[Batch], device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Return the metrics of a model in evaluation mode, without gradients.

    The means of all batches are merged exactly. The state that a score returns is carried to the
    next batch.

    Arguments:
        model: model that the task scores. Its modes are afterwards as before, and so are torch's
            generators.
        task: task that scores it.
        batches: batches of any sizes, in the order of `Task.batches`.
        device: device of the model.

    Returns:
        The metrics of `Task.report`; "loss" may be NaN or infinite.

    Raises:
        DataError: no answer is due in the batches.
    """
    device = torch.device(device)
    parts: Mapping[str, Mean] = {}
    state: Any = None
    with evaluating(model, device):
        for batch in batches:
            score = task.score(model, batch.to(device), state=state)
            parts, state = merged([parts, score.parts]), detached(score.state)
    if not any(mean.count.item() for mean in parts.values()):
        raise DataError(
            f"task {task.name}: nothing to evaluate", got="no answer", expected="one at least"
        )
    return task.report(parts)


@contextlib.contextmanager
def evaluating(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Hold a model in evaluation mode, without gradients, and torch's generators as they are.

    Arguments:
        model: model whose modes are put back after the block.
        device: device of the model.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), preserved_randomness(device):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def detached(state: Any) -> Any:
    """Return the state of a score without its graph."""
    return None if state is None else map_state(Tensor.detach, state)
