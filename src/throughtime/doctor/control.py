"""The positive control: can this very layer learn to remember at this lag at all?"""

import copy
import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.doctor.intervals import estimate
from throughtime.doctor.subject import Subject
from throughtime.doctor.trial import USUAL, Trial, Update, by_gradient, train_briefly
from throughtime.engines import Request, run
from throughtime.foreign.watching import watch
from throughtime.results.diagnosis import Estimate

_CLASSES, _BATCH, _CUE = 2, 32, 3


@dataclasses.dataclass(frozen=True)
class Control:
    """What came of the latch task.

    Attributes:
        learned: whether its held-out loss fell clearly below that of guessing.
        loss: at the end, in nats; guessing has ln 2.
        updates: made.
    """

    learned: bool
    loss: Estimate
    updates: int


def latch_control(
    subject: Subject, layer: str, lag: int, *, seconds: float, updates: int, seed: int = 0
) -> Control:
    """Train a copy of the layer alone to tell, after `lag` steps of noise, how a sequence began.

    Inputs have the statistics (mean and deviation by feature) of what the layer gets from the
    user's data; one of two fixed patterns is added at the first three steps.

    Arguments:
        subject: where the layer and its inputs are.
        layer: name of the recurrent layer.
        lag: steps between the pattern and the answer.
        seconds: that it may take.
        updates: at most.
        seed: of the noise.
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
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(_CLASSES, _CUE, given.shape[1], generator=generator).sign() * 2

    def batch(k: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(10_000 * seed + k)
        x = torch.randn(lag + _CUE, _BATCH, given.shape[1], generator=draw)
        y = torch.randint(_CLASSES, (_BATCH,), generator=draw)
        x[:_CUE] += patterns[y].transpose(0, 1)
        return (x.to(given) * deviation + mean), y.to(given.device)

    def loss(pair: Any) -> Tensor:
        x, y = pair
        state = cell.initial_state(_BATCH, dtype=x.dtype, device=x.device)
        streams = ()
        result = run(Request(cell, x, state, None, None, streams, "last"), "auto")
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
        seed=seed,
        enough=lambda losses: sum(losses) / len(losses) < 0.3,
    )
    after = estimate(trial.after)
    return Control(after.high < 0.6, after, trial.updates)


def _with_own_weights(cell: Any) -> Any:
    """The cell with parameters of its own in place of the tensors that it is bound to."""
    from throughtime.core.binding import bind

    named = {n: nn.Parameter(p.detach().clone()) for n, p in cell.named_parameters()}
    return bind(cell, named)
