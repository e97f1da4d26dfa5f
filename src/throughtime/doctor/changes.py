"""What can be changed in a copy of the model: initial weights, the way it is run, its training."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from throughtime.cells import LSTMCell
from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError
from throughtime.doctor.brief_training import USUAL, Training
from throughtime.doctor.exact_checks import lengths_of
from throughtime.foreign.substitutes import (
    HeldToTheEnd,
    OtherCell,
    Reattached,
    SkipOver,
    Substitute,
)
from throughtime.results.diagnosis import Cause

Where: TypeAlias = Literal["anywhere", "model", "step", "dropped"]
"""Of a cut: in the model, or in the training step; or a state that is dropped between calls."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One thing to try.

    Attributes:
        name: in a few words.
        code: for a reader to paste; {lag} stands for the lag.
        causes: that it is for.
        apply: changes a copy's recurrent module in place; the lag is given.
        substitute: that runs the layer in the copy, from the lag; None for the model's own.
        training: of the changed copy.
        beside: of the copy that it is compared with; None for no training at all.
        where: where the fault must lie for it to be of use.
        fits: whether it can be made in this module.
    """

    name: str
    code: str
    causes: tuple[Cause, ...]
    apply: Callable[[nn.Module, int], None] | None = None
    substitute: Callable[[int], Substitute] | None = None
    training: Training = USUAL
    beside: Training | None = USUAL
    where: Where = "anywhere"
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
                dtype = torch.promote_types(block.dtype, torch.float32)  # halves have no QR
                drawn = torch.empty(block.shape, dtype=dtype, device=block.device)
                block.copy_(nn.init.orthogonal_(drawn))
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


def _other_axis_first(module: nn.Module, lag: int) -> None:
    del lag
    vars(module)["batch_first"] = not module.batch_first


def _long_lstm(lag: int) -> OtherCell:
    def make(cell: Cell) -> Cell:
        if cell.output_size != getattr(cell, "hidden_size", cell.output_size):
            raise ConfigurationError("another cell", got="a projection", expected="h as it is")
        lstm = LSTMCell(cell.input_size, cell.output_size)
        with torch.no_grad():
            _chrono(lstm, lag)
        return lstm

    return OtherCell(make)


CHANGES: tuple[Change, ...] = (
    Change(
        "the other order of time and batch",
        "layer.batch_first = not layer.batch_first",
        (Cause.TIME_BATCH_SWAPPED,),
        _other_axis_first,
        fits=lambda module: isinstance(getattr(module, "batch_first", None), bool),
    ),
    Change(
        "the answer read at each sequence's last valid step",
        "output[lengths - 1, torch.arange(len(lengths))]  # or h_n of a packed batch",
        (Cause.PADDING_READ,),
        substitute=lambda lag: HeldToTheEnd(lengths_of),
    ),
    Change(
        "a fresh state for every batch",
        "output, state = layer(x)  # no stored state",
        (Cause.STATE_LEAK,),
        substitute=lambda lag: Reattached(dropped=False, kept=False),
    ),
    Change(
        "the graph kept between the calls of the layer",
        "# remove .detach() and no_grad() between the steps of one sequence",
        (Cause.GRADIENT_CUT,),
        substitute=lambda lag: Reattached(dropped=False, kept=True),
        where="model",
    ),
    Change(
        "one backward pass through the whole sequence",
        "loss_fn(model, batch).backward()  # windows of more than {lag} steps",
        (Cause.GRADIENT_CUT,),
        training=Training(own="optimizer"),
        beside=Training(own="step"),
        where="step",
    ),
    Change(
        "the state passed on between the calls of the layer",
        "output, state = layer(chunk, state)",
        (Cause.FORGETTING,),
        substitute=lambda lag: Reattached(dropped=True, kept=True),
        where="dropped",
    ),
    Change(
        "gate biases by chrono initialisation",
        "layer.bias_ih_l0.data[H:2*H] = torch.empty(H).uniform_(1, 2 * {lag}).log()"
        "  # and for an LSTM: layer.bias_ih_l0.data[:H] = -layer.bias_ih_l0.data[H:2*H]",
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
        (Cause.VANISHING, Cause.EXPLODING, Cause.FORGETTING),
        _orthogonal,
        fits=lambda module: _plain(module),
    ),
    Change(
        "identity recurrent weights",
        "nn.init.eye_(layer.weight_hh_l0)",
        (Cause.VANISHING, Cause.DEAD_UNITS),
        _identity,
        fits=lambda module: _plain(module),
    ),
    Change(
        "an LSTM with chrono initialisation in the layer's place",
        "layer = tt.LSTM(input_size, hidden_size)  # then its gate biases by chrono initialisation",
        (Cause.VANISHING, Cause.FORGETTING, Cause.EXPLODING, Cause.DEAD_UNITS),
        substitute=_long_lstm,
        fits=lambda module: not _is(module, "LSTM"),
    ),
    Change(
        "a skip connection over {lag} steps",
        "tt.RNN(input_size, hidden_size, lags=(1, {lag}))  # or any gated cell with lags",
        (Cause.VANISHING, Cause.FORGETTING),
        substitute=SkipOver,
    ),
    Change(
        "the gradient's norm clipped at 1",
        "nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
        (Cause.EXPLODING,),
        beside=Training(clip_norm=None),
    ),
    Change(
        "weights drawn afresh",
        "layer.reset_parameters(); nn.init.orthogonal_(layer.weight_hh_l0)",
        (Cause.SATURATED, Cause.DEAD_UNITS, Cause.EXPLODING),
        _afresh,
    ),
    Change(
        "more updates of the same kind",
        "# Adam, learning rate 3e-3, gradient clipped to norm 1",
        (Cause.UNDERTRAINED,),
        beside=None,
    ),
    Change(
        "a larger step",
        "# Adam, learning rate 1e-2, gradient clipped to norm 1",
        (Cause.UNDERTRAINED, Cause.INCONCLUSIVE),
        training=Training(learning_rate=1e-2),
    ),
)
