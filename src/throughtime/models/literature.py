"""Models whose recurrent layer is of a cell of the literature: `clockwork:hidden=64,groups=6`."""

from typing import Literal

from throughtime.cells import (
    ClockworkCell,
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
    UnitaryCell,
)
from throughtime.layers import Recurrent
from throughtime.models.registry import MODELS
from throughtime.models.sequence_model import SequenceModel
from throughtime.wiring import GraphCell, ZoneoutCell, architecture


@MODELS.register("leaky")
def _leaky(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    low: float = 0.0,
    high: float = 0.95,
    engine: str = "auto",
) -> SequenceModel:
    """Leaky integrators, rates drawn per unit (Jaeger 2007; Bengio et al. 2013)."""
    layer = Recurrent(LeakyCell, input_size, hidden, layers, rate=(low, high), engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("leaky-learned")
def _leaky_learned(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    rate: float = 0.9,
    engine: str = "auto",
) -> SequenceModel:
    """Leaky integrators whose rates are trained."""
    layer = Recurrent(
        LeakyCell, input_size, hidden, layers, rate=rate, learnable=True, engine=engine
    )
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("mi-rnn")
def _mi_rnn(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    engine: str = "auto",
) -> SequenceModel:
    """Tanh network with multiplicative integration (Wu et al. 2016)."""
    layer = Recurrent(MultiplicativeCell, input_size, hidden, layers, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("mi-lstm")
def _mi_lstm(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    engine: str = "auto",
) -> SequenceModel:
    """LSTM with multiplicative integration (Wu et al. 2016)."""
    layer = Recurrent(MultiplicativeLSTMCell, input_size, hidden, layers, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("mi-gru")
def _mi_gru(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    engine: str = "auto",
) -> SequenceModel:
    """GRU with multiplicative integration (Wu et al. 2016)."""
    layer = Recurrent(MultiplicativeGRUCell, input_size, hidden, layers, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("clockwork")
def _clockwork(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    groups: int = 4,
    connections: Literal["slower", "all"] = "slower",
    engine: str = "auto",
) -> SequenceModel:
    """Groups of units of period 1, 2, 4 ... (Koutnik et al. 2014)."""
    periods = [2**k for k in range(groups)]
    layer = Recurrent(
        ClockworkCell,
        input_size,
        hidden,
        layers,
        periods=periods,
        connections=connections,
        engine=engine,
    )
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("indrnn")
def _indrnn(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    engine: str = "auto",
) -> SequenceModel:
    """Units that see their own past alone (Li et al. 2018)."""
    layer = Recurrent(IndRNNCell, input_size, hidden, layers, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("mgu")
def _mgu(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    engine: str = "auto",
) -> SequenceModel:
    """Minimal gated unit (Zhou et al. 2016)."""
    layer = Recurrent(MinimalGatedUnitCell, input_size, hidden, layers, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("mingru")
def _mingru(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    candidate: Literal["identity", "positive"] = "positive",
    engine: str = "auto",
) -> SequenceModel:
    """GRU whose gates see the input alone (Feng et al. 2024)."""
    layer = Recurrent(MinGRUCell, input_size, hidden, layers, candidate=candidate, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("minlstm")
def _minlstm(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    candidate: Literal["identity", "positive"] = "positive",
    engine: str = "auto",
) -> SequenceModel:
    """LSTM whose gates see the input alone (Feng et al. 2024)."""
    layer = Recurrent(MinLSTMCell, input_size, hidden, layers, candidate=candidate, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("lstm-dropout")
def _lstm_dropout(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    rate: float = 0.25,
    per: Literal["step", "sequence"] = "step",
    engine: str = "auto",
) -> SequenceModel:
    """LSTM with dropout on its update (Semeniuta et al. 2016)."""
    layer = Recurrent(
        RecurrentDropoutLSTMCell, input_size, hidden, layers, rate=rate, per=per, engine=engine
    )
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("lstm-zoneout")
def _lstm_zoneout(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    output_rate: float = 0.05,
    memory_rate: float = 0.5,
    engine: str = "auto",
) -> SequenceModel:
    """LSTM that keeps units at random (Krueger et al. 2017)."""
    cell = ZoneoutCell(
        LSTMCell(input_size, hidden), output_rate=output_rate, memory_rate=memory_rate
    )
    layer = Recurrent(cell, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("lstm-layer-norm")
def _lstm_layer_norm(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    engine: str = "auto",
) -> SequenceModel:
    """LSTM with layer normalisation (Ba et al. 2016)."""
    layer = Recurrent(LayerNormLSTMCell, input_size, hidden, layers, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("gru-layer-norm")
def _gru_layer_norm(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    layers: int = 1,
    engine: str = "auto",
) -> SequenceModel:
    """GRU with layer normalisation (Ba et al. 2016)."""
    layer = Recurrent(LayerNormGRUCell, input_size, hidden, layers, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("urnn")
def _urnn(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    engine: str = "auto",
) -> SequenceModel:
    """Unitary evolution network (Arjovsky et al. 2016)."""
    layer = Recurrent(UnitaryCell, input_size, hidden, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)


@MODELS.register("graph")
def _graph(
    input_size: int,
    output_size: int,
    per_step: bool,
    *,
    hidden: int = 64,
    name: str = "td",
    lag: int = 21,
    cell: str = "tanh",
    engine: str = "auto",
) -> SequenceModel:
    """An architecture of Zhang et al. (2016): sh, st, bu, td, skip, variant-1 to -4."""
    wired = GraphCell(architecture(name, lag), input_size, hidden, cell=cell)
    layer = Recurrent(wired, engine=engine)
    return SequenceModel(layer, output_size, per_step=per_step)
