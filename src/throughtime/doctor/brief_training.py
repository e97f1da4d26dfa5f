"""Brief training, the same for every condition; and the control task of a single layer."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.doctor.intervals import estimate
from throughtime.doctor.subject import Subject
from throughtime.engines import Request, run
from throughtime.foreign.watching import watch
from throughtime.results.diagnosis import Estimate

_EVALUATIONS = 8


@dataclasses.dataclass(frozen=True)
class Training:
    """Settings of a brief training.

    Attributes:
        learning_rate: learning rate of Adam.
        clip_norm: bound on the gradient's norm; None for none.
        own: part of the user's training that is used instead: the optimiser, or the whole step.
    """

    learning_rate: float = 3e-3
    clip_norm: float | None = 1.0
    own: Literal["nothing", "optimizer", "step"] = "nothing"


USUAL = Training()


@dataclasses.dataclass(frozen=True)
class Trial:
    """Results of a brief training.

    Attributes:
        before: held-out losses before it, by batch.
        after: held-out losses at the evaluation where their mean was lowest.
        updates: number of updates.
        diverged: True if a loss or gradient was not finite, which ended it.
    """

    before: list[float]
    after: list[float]
    updates: int
    diverged: bool


Update: TypeAlias = Callable[[Any], float]
"""Function that makes one update from a batch. It returns the loss, or the gradient's norm where
that is not finite."""


def by_gradient(
    loss: Callable[[Any], Tensor], optimizer: torch.optim.Optimizer, clip_norm: float | None
) -> Update:
    """Return a function that makes updates by the gradient of a loss."""
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
    """Train for a while, and evaluate held-out losses now and then.

    Arguments:
        make_update: function that returns the update. It is called after the first evaluation,
            which may make parameters.
        batches: training batches, drawn in a shuffled order, again and again.
        seconds: largest duration, but for `least_updates`.
        enough: function from held-out losses to True if training may end there.
        patience: evaluations without an improvement after which it ends; None for no such end.
        least_updates: updates that are made even if they take longer than `seconds`.
        longest: seconds that `least_updates` may take; twice `seconds` at most.

    One update is made at least, or none if a second evaluation takes longer than `longest`. The
    time of that evaluation is part of both durations.
    """
    start = time.monotonic()
    before = after = evaluate()
    evaluation = time.monotonic() - start
    if 2 * evaluation > longest:
        return Trial(before, before, 0, diverged=False)
    end, last = (start + t - evaluation for t in (seconds, min(2 * seconds, longest)))
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


_CLASSES, _BATCH, _CUE = 2, 32, 3


@dataclasses.dataclass(frozen=True)
class Control:
    """Result of the latch task.

    Attributes:
        learned: True if the held-out loss fell clearly below that of guessing.
        loss: held-out loss at the end, in nats; guessing has ln 2.
        updates: number of updates.
    """

    learned: bool
    loss: Estimate
    updates: int


def latch_control(
    subject: Subject, layer: str, lag: int, *, seconds: float, updates: int
) -> Control:
    """Train a copy of the layer alone to classify sequences by their start, `lag` steps before.

    Inputs have the statistics (mean and deviation by feature) of the layer's inputs from the user's
    data. One of two fixed patterns is added at the first three steps.

    Arguments:
        lag: steps between the pattern and the answer.
    """
    model = subject.copy(training=True)
    held_out = subject.held_out[0]
    watched = watch(
        model, lambda: subject.loss(model, held_out), layer=layer, level=0, gradients=False
    )
    given = torch.cat([call.request.inputs.flatten(0, 1) for call in watched.calls])
    mean, deviation = given.mean(0), given.std(0).clamp_min(1e-3)
    request = watched.calls[0].request
    cell = copy.deepcopy(_with_own_weights(request.cell))
    head = nn.Linear(request.cell.output_size, _CLASSES).to(given.device, given.dtype)
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(_CLASSES, _CUE, given.shape[1], generator=generator).sign() * 2

    def batch(k: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(k)
        x = torch.randn(lag + _CUE, _BATCH, given.shape[1], generator=draw)
        y = torch.randint(_CLASSES, (_BATCH,), generator=draw)
        x[:_CUE] += patterns[y].transpose(0, 1)
        return (x.to(given) * deviation + mean), y.to(given.device)

    def loss(pair: Any) -> Tensor:
        x, y = pair
        state = cell.initial_state(_BATCH, dtype=x.dtype, device=x.device)
        result = run(Request(cell, x, state, outputs="last"), "auto")
        return F.cross_entropy(head(result.outputs), y)

    def evaluate() -> list[float]:
        with torch.no_grad():
            return [float(loss(batch(-1 - k))) for k in range(8)]

    def make_update() -> Update:
        parameters = [*cell.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=USUAL.learning_rate)
        return by_gradient(loss, optimizer, USUAL.clip_norm)

    trial: Trial = train_briefly(
        make_update,
        evaluate,
        [batch(k) for k in range(64)],
        seconds=seconds,
        most_updates=updates,
        seed=0,
        enough=lambda losses: sum(losses) / len(losses) < 0.3,
    )
    after = estimate(trial.after)
    return Control(after.high < 0.6, after, trial.updates)


def _with_own_weights(cell: Any) -> Any:
    """Return the cell with parameters of its own in place of the tensors that it is bound to."""
    from throughtime.core.cell import bind

    named = {n: nn.Parameter(p.detach().clone()) for n, p in cell.named_parameters()}
    return bind(cell, named)
