"""Dynamic evaluation: held-out text is scored, and the weights are adapted to what was scored."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.core.scoring import Mean, Metric, merged
from throughtime.tasks.sequences import SequenceBatch
from throughtime.tasks.task import Split, Task
from throughtime.training.evaluation import detached
from throughtime.training.reproducibility import preserved_randomness

SEGMENT = 20
"""Symbols between two updates: our choice."""


def dynamic_evaluation(
    model: nn.Module,
    task: Task,
    split: Split,
    *,
    rate: float,
    decay: float = 0.0,
    segment: int = SEGMENT,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Return the metrics of a model that goes on learning from held-out text, behind its scores.

        w <- w - rate dL_k/dw + decay (w_trained - w)

    L_k is the mean loss of segment k in nats a symbol. It enters the metrics before the update, so
    that no symbol is scored by weights that have seen it. The state is carried through the text,
    without dropout; gradients stay within their segment.

    Arguments:
        model: model that the task scores. It is not changed.
        task: task whose held-out batches are parts of one stream, such as a text.
        split: held-out data.
        rate: learning rate, at least 0; with 0, the weights stay.
        decay: share of the way back to the trained weights, 0 to 1.
        segment: symbols between two updates, at least 1.
        device: device of the model.

    Returns:
        The metrics of `Task.report`, each with the prefix "dynamic_".

    Raises:
        ConfigurationError: a number is out of range, or held-out batches are not parts of a stream.
        DataError: there is no held-out text.

    Example:
        >>> from throughtime.models import build_model
        >>> from throughtime.tasks import Text
        >>> task = Text.of("to be or not to be " * 60, length=10)
        >>> model = build_model("gru:hidden=8", task.inputs, task.answers)
        >>> list(dynamic_evaluation(model, task, "test", rate=0.1))
        ['dynamic_loss', 'dynamic_bits_per_character']

    Source:
        B. Krause et al., Dynamic evaluation of neural sequence models, ICML 2018.

    Differs:
        plain gradients; theirs are scaled by the root of their mean squares over the training text.
    """
    for name, value, most in (("rate", rate, math.inf), ("decay", decay, 1.0)):
        if not 0 <= value <= most or value == math.inf:
            expected = "a number of at least 0" if name == "rate" else "0 to 1"
            raise ConfigurationError(f"{name} of dynamic evaluation", got=value, expected=expected)
    if segment < 1:
        raise ConfigurationError("segment", got=segment, expected="at least 1")
    check_stream(task)
    device = torch.device(device)
    parts: Mapping[str, Mean] = {}
    state: Any = None
    with _adapting(model, device) as (weights, trained):
        for batch in _segments(task, split, segment):
            score = task.score(model, batch.to(device), state=state)
            parts, state = merged([parts, score.parts]), detached(score.state)
            if rate == 0:
                continue
            gradients = torch.autograd.grad(score.loss, weights, allow_unused=True)
            with torch.no_grad():
                for weight, start, gradient in zip(weights, trained, gradients, strict=True):
                    if gradient is not None:
                        weight -= rate * gradient
                    weight += decay * (start - weight)
    if not parts:
        raise DataError(f"{split} text of task {task.name}", got="none", expected="some text")
    return {f"dynamic_{name}": value for name, value in task.report(parts).items()}


def dynamic_metrics(task: Task, rate: float) -> tuple[Metric, ...]:
    """Return what tables show of a run's dynamic evaluation: the task's headline, by its means.

    Arguments:
        task: task of the run.
        rate: learning rate of the evaluation; 0 for none.

    Raises:
        ConfigurationError: held-out batches are not parts of a stream.
    """
    if rate == 0:
        return ()
    check_stream(task)
    headline = task.metrics[0]
    return (Metric(f"dynamic_{headline.name}", headline.unit, headline.better),)


def check_stream(task: Task) -> None:
    """Check that a task's held-out data is a stream of symbols.

    Raises:
        ConfigurationError: it is not.
    """
    if not (task.stream and hasattr(task, "vocabularies")):
        raise ConfigurationError(
            "dynamic evaluation",
            got=f"task {task.name!r}",
            expected="a task whose held-out data is one stream, such as text or penn-treebank",
        )


@contextlib.contextmanager
def _adapting(
    model: nn.Module, device: torch.device
) -> Iterator[tuple[list[nn.Parameter], list[Tensor]]]:
    """Hold a model in evaluation mode with gradients, and put its weights back afterwards."""
    modes = {module: module.training for module in model.modules()}
    weights = [p for p in model.parameters() if p.requires_grad]
    trained = [p.detach().clone() for p in weights]
    model.eval()
    try:
        with torch.enable_grad(), preserved_randomness(device):
            yield weights, trained
    finally:
        with torch.no_grad():
            for weight, start in zip(weights, trained, strict=True):
                weight.copy_(start)
        for module, training in modes.items():
            module.training = training


def _segments(task: Task, split: Split, size: int) -> Iterator[SequenceBatch]:
    """Yield the held-out text in pieces of a number of symbols."""
    for batch in task.batches(split, 1):
        assert isinstance(batch, SequenceBatch)
        pieces = zip(batch.inputs.split(size), batch.targets.split(size), strict=True)
        for inputs, targets in pieces:
            yield SequenceBatch(inputs, targets)
