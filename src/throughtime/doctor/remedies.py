"""What can be changed in a copy of the model, and whether it helps when it is trained."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.doctor.carrying import HeldToTheEnd, Reattached
from throughtime.doctor.intervals import difference, estimate
from throughtime.doctor.subject import Subject
from throughtime.doctor.trial import LEARNING_RATE, Trial, train_briefly
from throughtime.instruments.sites import find_recurrent, run_by, site_of
from throughtime.reports.diagnosis import Cause, Remedy


@dataclasses.dataclass(frozen=True)
class Change:
    """One thing to try.

    Attributes:
        name: in a few words.
        code: for a reader to paste; LAYER stands for the layer's name.
        causes: that it is for.
        apply: changes a copy's recurrent module in place; the lag is given.
        engine: that runs the layer in the copy; None for the model's own.
        learning_rate: of the training; None for the usual one.
        fits: whether it can be made in this module.
    """

    name: str
    code: str
    causes: tuple[Cause, ...]
    apply: Callable[[nn.Module, int], None] = lambda module, lag: None
    engine: Callable[[], Any] | None = None
    learning_rate: float | None = None
    fits: Callable[[nn.Module], bool] = lambda module: True


def _named(module: nn.Module, part: str) -> Iterator[nn.Parameter]:
    return (p for name, p in module.named_parameters() if part in name)


def _is(module: nn.Module, kind: str) -> bool:
    return kind in type(module).__name__.upper()


def _plain(module: nn.Module) -> bool:
    return not _is(module, "LSTM") and not _is(module, "GRU")


def _gate_biases(module: nn.Module) -> Iterator[Tensor]:
    """The forget (LSTM) or update (GRU) block of each input bias, the other bias set to 0."""
    blocks = 4 if _is(module, "LSTM") else 3
    for name, bias in module.named_parameters():
        if "bias_ih" in name:
            yield bias.detach().chunk(blocks)[1]
        elif "bias_hh" in name:
            bias.detach().chunk(blocks)[1].zero_()


def _set_gates(module: nn.Module, value: float) -> None:
    for block in _gate_biases(module):
        block.fill_(value)


def _chrono(module: nn.Module, lag: int) -> None:
    for block in _gate_biases(module):
        block.copy_(torch.empty_like(block).uniform_(1, max(2, 2 * lag)).log())
    blocks = 4 if _is(module, "LSTM") else 3
    if blocks == 4:
        for name, bias in module.named_parameters():
            if "bias_ih" in name:
                parts = bias.detach().chunk(4)
                parts[0].copy_(-parts[1])
            elif "bias_hh" in name:
                bias.detach().chunk(4)[0].zero_()


def _orthogonal(module: nn.Module, lag: int) -> None:
    del lag
    for weight in _named(module, "weight_hh"):
        for block in weight.detach().split(weight.shape[1]):
            if block.shape[0] == block.shape[1]:
                nn.init.orthogonal_(block)
    if _plain(module):
        for bias in _named(module, "bias"):
            bias.detach().zero_()


def _identity(module: nn.Module, lag: int) -> None:
    del lag
    for weight in _named(module, "weight_hh"):
        nn.init.eye_(weight.detach())
    for bias in _named(module, "bias"):
        bias.detach().zero_()


def _afresh(module: nn.Module, lag: int) -> None:
    for name, weight in module.named_parameters():
        if "weight_ih" in name:
            nn.init.uniform_(
                weight.detach(), -1 / math.sqrt(weight.shape[1]), 1 / math.sqrt(weight.shape[1])
            )
        elif "bias" in name:
            weight.detach().zero_()
    _orthogonal(module, lag)
    if not _plain(module):
        _chrono(module, lag)


CHANGES: tuple[Change, ...] = (
    Change(
        "gate biases by chrono initialisation",
        "tt.initializers.chrono({lag})  # or: LSTM forget biases log U(1, {lag}), input -forget",
        (Cause.FORGETTING, Cause.VANISHING),
        _chrono,
        fits=lambda module: not _plain(module),
    ),
    Change(
        "gate biases that keep: 3",
        "layer.bias_ih_l0.data[H:2*H] = 3.0  # forget gate of an LSTM, update gate of a GRU",
        (Cause.FORGETTING, Cause.VANISHING),
        lambda module, lag: _set_gates(module, 3.0),
        fits=lambda module: not _plain(module),
    ),
    Change(
        "orthogonal recurrent weights",
        "nn.init.orthogonal_(layer.weight_hh_l0)",
        (Cause.VANISHING, Cause.EXPLODING),
        _orthogonal,
    ),
    Change(
        "identity recurrent weights",
        "nn.init.eye_(layer.weight_hh_l0)",
        (Cause.VANISHING, Cause.DEAD_UNITS),
        _identity,
        fits=_plain,
    ),
    Change(
        "weights drawn afresh",
        "layer.reset_parameters(); nn.init.orthogonal_(layer.weight_hh_l0)",
        (Cause.SATURATED, Cause.DEAD_UNITS, Cause.EXPLODING, Cause.FORGETTING),
        _afresh,
    ),
    Change(
        "more updates of the same kind",
        "# Adam, learning rate 3e-3, gradient clipped to norm 1",
        (Cause.UNDERTRAINED,),
    ),
    Change(
        "a larger step",
        "# Adam, learning rate 1e-2, gradient clipped to norm 1",
        (Cause.UNDERTRAINED, Cause.INCONCLUSIVE),
        learning_rate=1e-2,
    ),
    Change(
        "the graph kept between the calls of the layer",
        "# remove .detach() and no_grad() between the steps of one sequence",
        (Cause.GRADIENT_CUT,),
        engine=lambda: Reattached(dropped=False, kept=True),
    ),
    Change(
        "the state passed on between the calls of the layer",
        "output, state = layer(chunk, state)",
        (Cause.FORGETTING, Cause.GRADIENT_CUT),
        engine=lambda: Reattached(dropped=True, kept=True),
    ),
    Change(
        "a fresh state for every batch",
        "output, state = layer(x)  # no stored state",
        (Cause.STATE_LEAK,),
        engine=lambda: Reattached(dropped=False, kept=False),
    ),
)


@dataclasses.dataclass
class Arm:
    """A copy of the model with a change, to be trained.

    Attributes:
        model: the copy.
        loss: of a batch.
    """

    model: nn.Module
    loss: Callable[[Any], Tensor]


def make_arm(
    subject: Subject, layer: str, change: Change | None, lag: int, lengths_of: Any = None
) -> Arm:
    """A copy of the model, changed; its training is as any other's.

    Arguments:
        subject: of which a copy is made.
        layer: name of the recurrent layer.
        change: None for the model as it is.
        lag: that is needed.
        lengths_of: true lengths from the layer's inputs, for a read-out at the true ends.
    """
    model = subject.copy(training=True)
    _, module = find_recurrent(model, layer)
    engine: Any = None
    if change is not None:
        with torch.no_grad():
            change.apply(module, lag)
        engine = change.engine() if change.engine is not None else None
    if lengths_of is not None:
        engine = HeldToTheEnd(lengths_of)
    site = None if engine is None else site_of(module)

    def loss(batch: Any) -> Tensor:
        if engine is None:
            return subject.loss(model, batch)
        with run_by(module, engine, site) as running:
            engine.begin(running.levels * running.directions)
            return subject.loss(model, batch)

    return Arm(model, loss)


def train_arm(
    subject: Subject,
    arm: Arm,
    *,
    seconds: float,
    updates: int,
    seed: int,
    learning_rate: float | None = None,
    enough: Callable[[list[float]], bool] | None = None,
) -> Trial:
    """Train an arm briefly."""

    def evaluate() -> list[float]:
        arm.model.eval()
        with torch.no_grad():
            losses = [float(arm.loss(batch)) for batch in subject.held_out]
        arm.model.train()
        return losses

    return train_briefly(
        lambda: [p for p in arm.model.parameters() if p.requires_grad],
        arm.loss,
        evaluate,
        subject.training,
        seconds=seconds,
        most_updates=updates,
        seed=seed,
        enough=enough,
        least_updates=updates // 4,
        learning_rate=LEARNING_RATE if learning_rate is None else learning_rate,
    )


def as_remedy(change: Change, before: Trial, after: Trial, lag: int) -> Remedy:
    """What the change came to beside the same training without it."""
    gain = difference(after.after, before.after)
    return Remedy(
        name=change.name,
        code=change.code.replace("{lag}", str(lag)),
        how="trained",
        quantity="held-out loss",
        before=estimate(before.after),
        after=estimate(after.after),
        updates=after.updates,
        helped=gain.high < 0,
    )
