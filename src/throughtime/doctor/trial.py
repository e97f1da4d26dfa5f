"""Brief training: the same for every arm, so that what differs is the change alone."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

_EVALUATIONS = 8


@dataclasses.dataclass(frozen=True)
class Training:
    """How a copy is trained.

    Attributes:
        learning_rate: of Adam.
        clip_norm: bound on the gradient's norm; None for none.
        own: what of the user's is used instead: the optimiser, or the whole training step.
    """

    learning_rate: float = 3e-3
    clip_norm: float | None = 1.0
    own: Literal["nothing", "optimizer", "step"] = "nothing"


USUAL = Training()


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a brief training came to.

    Attributes:
        before: held-out losses before it, by batch.
        after: at the evaluation where their mean was lowest.
        updates: made.
        diverged: whether a loss or gradient was not finite, which ended it.
    """

    before: list[float]
    after: list[float]
    updates: int
    diverged: bool


Update: TypeAlias = Callable[[Any], float]
"""Makes one update from a batch; the loss, or the gradient's norm where that is not finite."""


def by_gradient(
    loss: Callable[[Any], Tensor], optimizer: torch.optim.Optimizer, clip_norm: float | None
) -> Update:
    """Updates by the gradient of a loss.

    Arguments:
        loss: of a batch, with a graph.
        optimizer: of the parameters.
        clip_norm: bound on the gradient's norm; None for none.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def update(batch: Any) -> float:
        with torch.enable_grad():
            value = loss(batch)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
        norm = nn.utils.clip_grad_norm_(parameters, math.inf if clip_norm is None else clip_norm)
        if not math.isfinite(float(norm)):
            return float(norm)
        if math.isfinite(float(value.detach())):
            optimizer.step()
        return float(value.detach())

    return update


def train_briefly(
    make_update: Callable[[], Update],
    evaluate: Callable[[], list[float]],
    batches: Sequence[Any],
    *,
    seconds: float,
    most_updates: int,
    seed: int,
    enough: Callable[[list[float]], bool] | None = None,
    patience: int | None = None,
    least_updates: int = 0,
    longest: float = math.inf,
) -> Trial:
    """Train for a while, looking at held-out losses now and then.

    Arguments:
        make_update: called after the first evaluation, which may make parameters.
        evaluate: held-out losses by batch.
        batches: drawn in a shuffled order, again and again.
        seconds: that it takes at most, but for `least_updates`.
        most_updates: likewise.
        seed: of the order.
        enough: whether held-out losses are good enough to end here.
        patience: evaluations without an improvement after which it ends; None for no such end.
        least_updates: made even if they take longer than `seconds`, up to `longest`.
        longest: in seconds, and twice `seconds` at most.
    """
    start = time.monotonic()
    end, last = start + seconds, start + min(2 * seconds, longest)
    before = after = evaluate()
    update = make_update()
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    every = max(1, most_updates // _EVALUATIONS)
    made, idle = 0, 0
    while made < most_updates:
        if not order:
            order = torch.randperm(len(batches), generator=generator).tolist()
        if not math.isfinite(update(batches[order.pop()])):
            return Trial(before, after, made, diverged=True)
        made += 1
        now = time.monotonic()
        late = now > end and (made >= least_updates or now > last)
        if made % every == 0 or late or made == most_updates:
            losses = evaluate()
            idle += 1
            if math.fsum(losses) < 0.99 * math.fsum(after):
                idle = 0
            if math.fsum(losses) < math.fsum(after):
                after = losses
            if late or (enough is not None and enough(losses)) or idle == patience:
                break
    return Trial(before, after, made, diverged=False)
