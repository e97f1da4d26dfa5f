"""Models whose recurrent layer is of a cell of the literature: `clockwork:hidden=64,groups=6`."""

import functools
from collections.abc import Callable
from typing import Any, Literal

from throughtime.cells import (
    ClockworkCell,
    FlipFlopCell,
    IndRNNCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LeakyCell,
    LSTMCell,
    MinGRUCell,
    MinimalGatedUnitCell,
    MinLSTMCell,
    MultiplicativeCell,
    MultiplicativeGRUCell,
    MultiplicativeLSTMCell,
    RecurrentDropoutLSTMCell,
    ThresholdCell,
    UnitaryCell,
)
from throughtime.core.cell import Cell
from throughtime.layers import Recurrent
from throughtime.models.registry import MODELS
from throughtime.models.sequence_model import SequenceModel
from throughtime.tasks.kinds import Classes, Values
from throughtime.wiring import GraphCell, ZoneoutCell, architecture

Make = Callable[..., Recurrent]
"""A layer from an input size and options, which are those of the model."""


def _enter(name: str) -> Callable[[Make], Make]:
    """Decorator: the layer with a linear read-out is the model of a name."""

    def enter(make: Make) -> Make:
        @functools.wraps(make)  # the registry reads the options from the signature of what it wraps
        def build(input_size: int, answers: Classes | Values, **options: Any):
            return SequenceModel(make(input_size, **options), answers)

        MODELS.register(name)(build)
        return make

    return enter


def _enter_cell(name: str, cell: type[Cell], line: str) -> None:
    """Enter a cell without options of its own."""

    def make(input_size: int, *, hidden: int = 64, layers: int = 1, engine: str = "auto"):
        return Recurrent(cell, input_size, hidden, layers, engine=engine)

    make.__doc__ = line
    _enter(name)(make)


_enter_cell(
    "mi-rnn",
    MultiplicativeCell,
    "Tanh network with multiplicative integration (Wu et al. 2016).",
)
_enter_cell(
    "mi-lstm", MultiplicativeLSTMCell, "LSTM with multiplicative integration (Wu et al. 2016)."
)
_enter_cell(
    "mi-gru", MultiplicativeGRUCell, "GRU with multiplicative integration (Wu et al. 2016)."
)
_enter_cell("indrnn", IndRNNCell, "Units that see their own past alone (Li et al. 2018).")
_enter_cell("mgu", MinimalGatedUnitCell, "Minimal gated unit (Zhou et al. 2016).")
_enter_cell("lstm-layer-norm", LayerNormLSTMCell, "LSTM with layer normalisation (Ba et al. 2016).")
_enter_cell("gru-layer-norm", LayerNormGRUCell, "GRU with layer normalisation (Ba et al. 2016).")


_enter_cell(
    "flip-flop", FlipFlopCell, "Two-state units that hold what was set (Bengio et al. 1993)."
)
_enter_cell(
    "threshold",
    ThresholdCell,
    "Hard-threshold units, which no gradient goes through (after Bengio et al. 1994).",
)
_enter_cell("urnn", UnitaryCell, "Unitary evolution network (Arjovsky et al. 2016).")


@_enter("leaky")
def _leaky(
    input_size: int,
    *,
    hidden: int = 64,
    layers: int = 1,
    low: float = 0.0,
    high: float = 0.95,
    engine: str = "auto",
) -> Recurrent:
    """Leaky integrators, rates drawn per unit (Jaeger 2007; Bengio et al. 2013)."""
    return Recurrent(LeakyCell, input_size, hidden, layers, rate=(low, high), engine=engine)


@_enter("leaky-learned")
def _leaky_learned(
    input_size: int,
    *,
    hidden: int = 64,
    layers: int = 1,
    rate: float = 0.9,
    engine: str = "auto",
) -> Recurrent:
    """Leaky integrators whose rates are trained."""
    return Recurrent(
        LeakyCell, input_size, hidden, layers, rate=rate, learnable=True, engine=engine
    )


@_enter("clockwork")
def _clockwork(
    input_size: int,
    *,
    hidden: int = 64,
    layers: int = 1,
    groups: int = 4,
    connections: Literal["slower", "all"] = "slower",
    engine: str = "auto",
) -> Recurrent:
    """Groups of units of period 1, 2, 4 ... (Koutnik et al. 2014)."""
    periods = [2**k for k in range(groups)]
    return Recurrent(
        ClockworkCell,
        input_size,
        hidden,
        layers,
        periods=periods,
        connections=connections,
        engine=engine,
    )


@_enter("mingru")
def _mingru(
    input_size: int,
    *,
    hidden: int = 64,
    layers: int = 1,
    candidate: Literal["identity", "positive"] = "positive",
    engine: str = "auto",
) -> Recurrent:
    """GRU whose gates see the input alone (Feng et al. 2024)."""
    return Recurrent(MinGRUCell, input_size, hidden, layers, candidate=candidate, engine=engine)


@_enter("minlstm")
def _minlstm(
    input_size: int,
    *,
    hidden: int = 64,
    layers: int = 1,
    candidate: Literal["identity", "positive"] = "positive",
    engine: str = "auto",
) -> Recurrent:
    """LSTM whose gates see the input alone (Feng et al. 2024)."""
    return Recurrent(MinLSTMCell, input_size, hidden, layers, candidate=candidate, engine=engine)


@_enter("lstm-dropout")
def _lstm_dropout(
    input_size: int,
    *,
    hidden: int = 64,
    layers: int = 1,
    rate: float = 0.25,
    per: Literal["step", "sequence"] = "step",
    engine: str = "auto",
) -> Recurrent:
    """LSTM with dropout on its update (Semeniuta et al. 2016)."""
    return Recurrent(
        RecurrentDropoutLSTMCell, input_size, hidden, layers, rate=rate, per=per, engine=engine
    )


@_enter("lstm-zoneout")
def _lstm_zoneout(
    input_size: int,
    *,
    hidden: int = 64,
    layers: int = 1,
    output_rate: float = 0.05,
    memory_rate: float = 0.5,
    engine: str = "auto",
) -> Recurrent:
    """LSTM that keeps units at random (Krueger et al. 2017)."""
    return Recurrent(
        _zoneout_lstm,
        input_size,
        hidden,
        layers,
        output_rate=output_rate,
        memory_rate=memory_rate,
        engine=engine,
    )


def _zoneout_lstm(input_size: int, hidden_size: int, **rates: float) -> ZoneoutCell:
    return ZoneoutCell(LSTMCell(input_size, hidden_size), **rates)


@_enter("graph")
def _graph(
    input_size: int,
    *,
    hidden: int = 64,
    layers: int = 1,
    name: str = "td",
    lag: int = 21,
    cell: str = "tanh",
    engine: str = "auto",
) -> Recurrent:
    """An architecture of Zhang et al. (2016): sh, st, bu, td, skip, variant-1 to -4."""
    make = functools.partial(GraphCell, architecture(name, lag), cell=cell)
    return Recurrent(make, input_size, hidden, layers, engine=engine)
