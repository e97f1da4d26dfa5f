"""Loss and accuracy on held-out data."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from throughtime.core.errors import DataError
from throughtime.tasks.task import Batch, Task
from throughtime.training.reproducibility import preserved_randomness

EVALUATION_BATCH_SIZE = 128
"""Sequences at once; a constant, so that no result depends on the batch size of the training."""


def evaluate(
    model: nn.Module, task: Task, batches: Iterable[Batch], device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Evaluate a model in evaluation mode, without gradients.

        loss = sum_b m_b loss_b / sum_b m_b,   accuracy = sum_b c_b / sum_b n_b

    where loss_b is the mean over the m_b targets of batch b, and c_b of the n_b answers are right
    that the task judges, which may be fewer: copying judges no blanks.

    Arguments:
        model: called as model(inputs, lengths). Its modes are afterwards as before, and so are
            torch's generators.
        task: says the loss and which answers are right.
        batches: of any sizes; see `Task.evaluation_batches`.
        device: where the model is.

    Returns:
        "loss", which may be NaN or infinite, and "accuracy" in [0, 1].

    Raises:
        DataError: the batches hold no answer.
    """
    device = torch.device(device)
    modes = {module: module.training for module in model.modules()}
    loss = torch.zeros((), dtype=torch.float64, device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    targets = answers = 0
    model.eval()
    try:
        with torch.no_grad(), preserved_randomness(device):
            for batch in batches:
                count = _target_count(task, batch)
                if count == 0:
                    continue  # its mean would be 0 / 0
                batch = to_device(batch, device)
                outputs = model(batch.inputs, batch.lengths)
                correct: Tensor = task.correct(outputs, batch)
                loss += task.loss(outputs, batch).double() * count
                right += correct.sum()
                targets += count
                answers += correct.numel()
    finally:
        for module, training in modes.items():
            module.training = training
    if answers == 0:
        raise DataError(
            f"task {task.name}: nothing to evaluate", got="no answer", expected="one at least"
        )
    return {"loss": loss.item() / targets, "accuracy": right.item() / answers}


def _target_count(task: Task, batch: Batch) -> int:
    if task.answer == "class_per_step":
        return int((batch.targets >= 0).sum())
    if task.answer == "value_per_step":
        return batch.targets.shape[0] * batch.targets.shape[1]
    return batch.inputs.shape[1]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with inputs and targets on a device; lengths stay on the CPU."""
    return Batch(batch.inputs.to(device), batch.targets.to(device), batch.lengths)
