"""Models by name: `lstm:hidden=64,layers=2`."""

from typing import Literal

from torch import nn

from throughtime.cells import ChoGRUCell, CoupledLSTMCell, LSTM1997Cell, LSTMCell
from throughtime.core import initializers
from throughtime.core.errors import ConfigurationError
from throughtime.core.registry import Registry
from throughtime.layers import GRU, LSTM, RNN, Recurrent
from throughtime.models.sequence_model import SequenceModel
from throughtime.tasks.kinds import Answers, Classes, Inputs, Likelihood, Tokens, Values

MODELS = Registry[SequenceModel]("model")
"""All models by name. Builders take `input_size`, `answers` and their options."""

Start = Literal["torch", "orthogonal", "identity", "sparse"]


@MODELS.register("rnn")
def _rnn(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    bidirectional: bool = False,
    init: Start = "torch",
    engine: str = "auto",
) -> SequenceModel:
    """Simple recurrent network with tanh units (Elman 1990)."""
    start = {
        "torch": [],
        "orthogonal": [initializers.orthogonal()],
        "identity": [initializers.identity()],
        # "smart_tanh" of Pascanu et al. 2013
        "sparse": [
            initializers.normal(0.01),
            initializers.sparse(15),
            initializers.spectral_radius(0.95),
        ],
    }[init]
    layer = RNN(
        input_size, hidden, layers, bidirectional=bidirectional, engine=engine, initializers=start
    )
    return SequenceModel(layer, answers)


@MODELS.register("irnn")
def _irnn(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    scale: float = 1.0,
    input_std: float = 0.001,
    engine: str = "auto",
) -> SequenceModel:
    """ReLU network whose recurrent matrix starts as the identity (Le et al. 2015)."""
    layer = RNN(
        input_size,
        hidden,
        layers,
        "relu",
        engine=engine,
        initializers=[initializers.irnn(scale, input_std)],
    )
    return SequenceModel(layer, answers)


@MODELS.register("skip-rnn")
def _skip_rnn(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    lag: int = 8,
    engine: str = "auto",
) -> SequenceModel:
    """Tanh network that also reads its output of `lag` steps ago (Zhang et al. 2016)."""
    layer = RNN(input_size, hidden, layers, lags=sorted({1, lag}), engine=engine)
    return SequenceModel(layer, answers)


@MODELS.register("narx")
def _narx(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    delays: int = 4,
    engine: str = "auto",
) -> SequenceModel:
    """Tanh network that reads all its last `delays` outputs (Lin et al. 1996)."""
    layer = RNN(input_size, hidden, layers, lags=range(1, delays + 1), engine=engine)
    return SequenceModel(layer, answers)


@MODELS.register("lstm")
def _lstm(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    projection: int = 0,
    forget_bias: float | None = None,
    chrono: int | None = None,
    engine: str = "auto",
) -> SequenceModel:
    """Long short-term memory with a forget gate (Gers et al. 2000), as torch's."""
    layer = LSTM(
        input_size,
        hidden,
        layers,
        dropout=dropout,
        bidirectional=bidirectional,
        proj_size=projection,
        engine=engine,
        initializers=_gate_start(forget_bias, chrono),
    )
    return SequenceModel(layer, answers)


@MODELS.register("lstm-peephole")
def _lstm_peephole(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    forget_bias: float | None = None,
    chrono: int | None = None,
    engine: str = "auto",
) -> SequenceModel:
    """LSTM whose gates see the memory (Gers and Schmidhuber 2000)."""
    layer = Recurrent(
        LSTMCell,
        input_size,
        hidden,
        layers,
        peepholes=True,
        engine=engine,
        initializers=_gate_start(forget_bias, chrono),
    )
    return SequenceModel(layer, answers)


@MODELS.register("lstm-coupled")
def _lstm_coupled(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    forget_bias: float | None = None,
    chrono: int | None = None,
    engine: str = "auto",
) -> SequenceModel:
    """LSTM that writes what it forgets (Greff et al. 2015)."""
    layer = Recurrent(
        CoupledLSTMCell,
        input_size,
        hidden,
        layers,
        engine=engine,
        initializers=_gate_start(forget_bias, chrono),
    )
    return SequenceModel(layer, answers)


@MODELS.register("lstm-1997")
def _lstm_1997(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    engine: str = "auto",
) -> SequenceModel:
    """LSTM without a forget gate (Hochreiter and Schmidhuber 1997)."""
    layer = Recurrent(LSTM1997Cell, input_size, hidden, layers, engine=engine)
    return SequenceModel(layer, answers)


@MODELS.register("gru")
def _gru(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    forget_bias: float | None = None,
    chrono: int | None = None,
    engine: str = "auto",
) -> SequenceModel:
    """Gated recurrent unit, as torch's."""
    layer = GRU(
        input_size,
        hidden,
        layers,
        dropout=dropout,
        bidirectional=bidirectional,
        engine=engine,
        initializers=_gate_start(forget_bias, chrono),
    )
    return SequenceModel(layer, answers)


@MODELS.register("gru-cho")
def _gru_cho(
    input_size: int,
    answers: Classes | Values,
    *,
    hidden: int = 64,
    layers: int = 1,
    forget_bias: float | None = None,
    chrono: int | None = None,
    engine: str = "auto",
) -> SequenceModel:
    """Gated recurrent unit of Cho et al. (2014)."""
    layer = Recurrent(
        ChoGRUCell,
        input_size,
        hidden,
        layers,
        engine=engine,
        initializers=_gate_start(forget_bias, chrono),
    )
    return SequenceModel(layer, answers)


def _gate_start(forget_bias: float | None, chrono: int | None) -> list[initializers.Initializer]:
    start = [] if forget_bias is None else [initializers.forget_bias(forget_bias)]
    return start if chrono is None else [*start, initializers.chrono(chrono)]


def build_model(spec: str, inputs: Inputs, answers: Answers) -> nn.Module:
    """Build the model that a text names, for a task's kinds of inputs and answers.

    The weights are drawn from torch's generator, on the CPU.

    Arguments:
        spec: registry text: "lstm:hidden=64".
        inputs: kind of the inputs.
        answers: kind of the answers.

    Raises:
        UnknownNameError, ConfigurationError: no such model, or it has no such option.

    Example:
        >>> from throughtime.tasks.kinds import Classes, Vectors
        >>> build_model("gru:hidden=4", Vectors(2), Classes(3))(torch.ones(5, 1, 2)).shape
        torch.Size([1, 3])
    """
    if isinstance(inputs, Tokens) or isinstance(answers, Likelihood):
        raise ConfigurationError(
            f"model {spec!r}", got=f"{inputs} and {answers}", expected="vectors, classes or values"
        )
    return MODELS.build(spec, input_size=inputs.width, answers=answers)
