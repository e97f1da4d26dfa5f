"""Simple recurrent networks: one nonlinearity over the input and past outputs, and leaky units."""

from collections.abc import Sequence
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from throughtime.core.cell import TorchEquivalent
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.initializers import irnn
from throughtime.core.registry import CELLS
from throughtime.core.state import State

Nonlinearity: TypeAlias = Literal["tanh", "relu", "identity"]
_EQUIVALENTS: dict[str, TorchEquivalent] = {"tanh": "RNN_TANH", "relu": "RNN_RELU"}
NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu, "identity": lambda a: a}


@final
class ElmanCell(GatedCell):
    """The simple recurrent network, with any delays (Elman 1990; Lin et al. 1996).

        h_t = f(W x_t + b_ih + b_hh + sum over d in lags of U^(d) h_{t-d})

    With lags (1,) and tanh or ReLU it is torch's RNN; (1, s) is the s-step skip connection of Zhang
    et al. (2016); (1, ..., D) has NARX delays. An IRNN is ReLU with `initializers.irnn()`.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        nonlinearity: f: "tanh", "relu" or "identity".
        lags: increasing positive numbers of steps.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, bad lags, or an unknown nonlinearity.

    Example:
        >>> cell = ElmanCell(3, 5, lags=(1, 21))
        >>> [name for name, _ in cell.named_parameters()]
        ['weight_ih', 'weight_hh', 'weight_hh_lag21', 'bias_ih', 'bias_hh']
    """

    gates = ("hidden",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: Nonlinearity = "tanh",
        lags: Sequence[int] = (1,),
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, lags=lags, bias=bias, device=device, dtype=dtype)
        if nonlinearity not in NONLINEARITIES:
            raise UnknownNameError("nonlinearity", str(nonlinearity), NONLINEARITIES)
        self.nonlinearity: Nonlinearity = nonlinearity
        self.activations = (nonlinearity,)
        if self.lags == (1,):
            self.torch_equivalent = _EQUIVALENTS.get(nonlinearity)

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return f(x + u); `state` is not read."""
        return NONLINEARITIES[self.nonlinearity](x[0] + u[0] if u else x[0])


@CELLS.register("rnn")
def _rnn(input_size: int, hidden_size: int) -> ElmanCell:
    """The simple recurrent network with tanh units (Elman 1990)."""
    return ElmanCell(input_size, hidden_size)


@CELLS.register("irnn")
def _irnn(
    input_size: int, hidden_size: int, *, scale: float = 1.0, input_std: float = 0.001
) -> ElmanCell:
    """A ReLU network whose recurrent matrix starts as the identity (Le et al. 2015)."""
    cell = ElmanCell(input_size, hidden_size, nonlinearity="relu")
    irnn(scale, input_std)(cell)
    return cell


@CELLS.register("skip-rnn")
def _skip_rnn(input_size: int, hidden_size: int, *, lag: int = 8) -> ElmanCell:
    """A tanh network that also reads its output of `lag` steps ago (Zhang et al. 2016)."""
    return ElmanCell(input_size, hidden_size, lags=sorted({1, lag}))


@CELLS.register("narx")
def _narx(input_size: int, hidden_size: int, *, delays: int = 4) -> ElmanCell:
    """A tanh network that reads all its last `delays` outputs (Lin et al. 1996)."""
    return ElmanCell(input_size, hidden_size, lags=range(1, delays + 1))


@final
class LeakyCell(GatedCell):
    """A network of leaky integrators (Jaeger et al. 2007; Bengio et al. 2013).

        h_t = a * h_{t-1} + (1 - a) * f(x + u)        a = sigmoid(leak), per unit

    A unit of rate a forgets with a time constant of -1 / log(a) steps.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        rate: a of every unit, in [0, 1); or (low, high), between which each unit's is drawn
            uniformly.
        learnable: If True, the rates are trained.
        nonlinearity: f: "tanh", "relu" or "identity".
        lags: increasing positive numbers of steps.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, bad lags, or rates out of range.
        UnknownNameError: an unknown nonlinearity.

    Example:
        >>> cell = LeakyCell(3, 5, rate=(0.02, 0.2))
        >>> bool((cell.leak.sigmoid() <= 0.2).all()), cell.leak.requires_grad
        (True, False)

    Source: Y. Bengio, N. Boulanger-Lewandowski and R. Pascanu, "Advances in optimizing recurrent
    networks", ICASSP 2013.

    Differs from the paper in: rates that are learned are kept in (0, 1) by a sigmoid (our choice).
    """

    gates = ("hidden",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rate: float | tuple[float, float] = 0.9,
        learnable: bool = False,
        nonlinearity: Nonlinearity = "tanh",
        lags: Sequence[int] = (1,),
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, lags=lags, bias=bias, device=device, dtype=dtype)
        low, high = rate if isinstance(rate, tuple) else (rate, rate)
        if not 0 <= low <= high < 1 or (learnable and low == 0):
            least = "(0, 1), since a learned rate cannot leave 0" if learnable else "[0, 1)"
            raise ConfigurationError("rate", got=rate, expected=f"one or an interval in {least}")
        if nonlinearity not in NONLINEARITIES:
            raise UnknownNameError("nonlinearity", str(nonlinearity), NONLINEARITIES)
        self.nonlinearity: Nonlinearity = nonlinearity
        rates = torch.empty(hidden_size, device=device, dtype=dtype).uniform_(low, high)
        self.leak = nn.Parameter(rates.logit(), requires_grad=learnable)

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return h_t."""
        a = self.leak.sigmoid()
        new = NONLINEARITIES[self.nonlinearity](x[0] + u[0] if u else x[0])
        return a * state.h + (1 - a) * new


@CELLS.register("leaky")
def _leaky(input_size: int, hidden_size: int, *, low: float = 0.0, high: float = 0.95) -> LeakyCell:
    """Leaky integrators with rates drawn for each unit (Jaeger 2007; Bengio et al. 2013)."""
    return LeakyCell(input_size, hidden_size, rate=(low, high))


@CELLS.register("leaky-learned")
def _leaky_learned(input_size: int, hidden_size: int, *, rate: float = 0.9) -> LeakyCell:
    """Leaky integrators whose rates are trained."""
    return LeakyCell(input_size, hidden_size, rate=rate, learnable=True)
