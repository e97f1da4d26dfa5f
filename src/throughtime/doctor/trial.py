"""Brief training: the same for every arm, so that what differs is the change alone."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

LEARNING_RATE = 3e-3
CLIP_NORM = 1.0
_EVALUATIONS = 8


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a brief training came to.

    Attributes:
        before: held-out losses before it, by batch.
        after: at the evaluation where their mean was lowest.
        updates: made.
        norms: of the gradient at each update, before clipping.
        diverged: whether a loss or gradient was not finite, which ended it.
    """

    before: list[float]
    after: list[float]
    updates: int
    norms: list[float]
    diverged: bool


def train_briefly(
    parameters: Callable[[], Sequence[nn.Parameter]],
    loss: Callable[[Any], Tensor],
    evaluate: Callable[[], list[float]],
    batches: Sequence[Any],
    *,
    seconds: float,
    most_updates: int,
    seed: int,
    learning_rate: float = LEARNING_RATE,
    clip_norm: float | None = CLIP_NORM,
    enough: Callable[[list[float]], bool] | None = None,
    patience: int | None = None,
    least_updates: int = 0,
) -> Trial:
    """Train with Adam for a while, looking at held-out losses now and then.

    Arguments:
        parameters: called after the first evaluation, which may make them.
        loss: of a batch, with a graph.
        evaluate: held-out losses by batch.
        batches: drawn in a shuffled order, again and again.
        seconds: the most that it takes.
        most_updates: likewise.
        seed: of the order.
        learning_rate: of Adam.
        clip_norm: bound on the gradient's norm; None for none.
        enough: whether held-out losses are good enough to end here.
        least_updates: made even if they take longer than `seconds`.
        patience: evaluations without an improvement after which it ends; None for no such end.
    """
    end = time.monotonic() + seconds
    before = after = evaluate()
    wanted = list(parameters())
    optimizer = torch.optim.Adam(wanted, lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    norms: list[float] = []
    order: list[int] = []
    every = max(1, most_updates // _EVALUATIONS)
    diverged, idle = False, 0
    for update in range(1, most_updates + 1):
        if not order:
            order = torch.randperm(len(batches), generator=generator).tolist()
        with torch.enable_grad():
            value = loss(batches[order.pop()])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
        bound = math.inf if clip_norm is None else clip_norm
        norm = float(nn.utils.clip_grad_norm_(wanted, bound))
        if not math.isfinite(norm) or not math.isfinite(float(value.detach())):
            diverged = True
            break
        norms.append(norm)
        optimizer.step()
        late = time.monotonic() > end and update >= least_updates
        if update % every == 0 or late or update == most_updates:
            losses = evaluate()
            idle += 1
            if math.fsum(losses) < 0.99 * math.fsum(after):
                idle = 0
            if math.fsum(losses) < math.fsum(after):
                after = losses
            if late or (enough is not None and enough(losses)) or idle == patience:
                break
    return Trial(before, after, len(norms), norms, diverged)
