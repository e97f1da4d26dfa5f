"""Cells without a recurrent matrix: each unit sees its own past alone."""

import abc
from typing import Literal, TypeAlias, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.cells.elman import NONLINEARITIES, Nonlinearity
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State

Candidate: TypeAlias = Literal["identity", "positive"]


@CELLS.register("indrnn")
@final
class IndRNNCell(GatedCell):
    """The independently recurrent network (Li et al. 2018).

        h_t = f(W x_t + b + w * h_{t-1})        w: one number a unit

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        nonlinearity: f: "relu", "tanh" or "identity".
        largest: w is drawn from U(0, largest): for sequences of T steps the paper bounds |w| by
            2^(1/T) where the whole past may matter.
        bias: If True, there is b.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, or `largest` not above 0.
        UnknownNameError: an unknown nonlinearity.

    Example:
        >>> cell = IndRNNCell(3, 5)
        >>> [name for name, _ in cell.named_parameters()]
        ['weight_ih', 'bias_ih', 'own_weight']

    Source: S. Li et al., "Independently recurrent neural network (IndRNN)", CVPR 2018.

    Differs from the paper in: w is bounded when it is drawn, and not clipped in training.
    """

    gates = ("hidden",)
    lags = ()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: Nonlinearity = "relu",
        largest: float = 1.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, bias=bias, device=device, dtype=dtype)
        if not largest > 0:
            raise ConfigurationError("largest", got=largest, expected="a number above 0")
        if nonlinearity not in NONLINEARITIES:
            raise UnknownNameError("nonlinearity", str(nonlinearity), NONLINEARITIES)
        self.nonlinearity: Nonlinearity = nonlinearity
        drawn = torch.empty(hidden_size, device=device, dtype=dtype).uniform_(0, largest)
        self.own_weight = nn.Parameter(drawn)

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return h_t; there is no `u`."""
        del u
        return NONLINEARITIES[self.nonlinearity](x[0] + self.own_weight * state.h)


class _LinearInItsPast(GatedCell, abc.ABC):
    """h_t = a * h_{t-1} + b with a and b of the input alone."""

    lags = ()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        candidate: Candidate = "identity",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, bias=bias, device=device, dtype=dtype)
        if candidate not in get_args(Candidate):
            raise UnknownNameError("candidate", str(candidate), get_args(Candidate))
        self.candidate: Candidate = candidate

    @abc.abstractmethod
    def _terms(self, x: Gates) -> tuple[Tensor, Tensor]:
        """Return a and b."""

    def linear_step(
        self, projected: Float[Tensor, "*steps projected"]
    ) -> tuple[Float[Tensor, "*steps hidden"], Float[Tensor, "*steps hidden"]]:
        """Return a and b, for any leading axes.

        Arguments:
            projected: (..., gates * hidden).
        """
        return self._terms(projected.chunk(len(self.gate_names), -1))

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return h_t; there is no `u`."""
        del u
        a, b = self._terms(x)
        return a * state.h + b

    def _new(self, x: Tensor) -> Tensor:
        return x if self.candidate == "identity" else torch.where(x >= 0, x + 0.5, x.sigmoid())


@final
class MinGRUCell(_LinearInItsPast):
    """minGRU: gates of the input alone, so that the state is linear in its past (Feng et al. 2024).

        z = sigmoid(x_z)        n = g(x_n)        h_t = (1 - z) * h_{t-1} + z * n

    `engine="scan"` runs it in parallel over time.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        candidate: g: "identity" as in the paper's first form, or "positive", its logarithmic one:
            x + 1/2 where x >= 0, else sigmoid(x).
        bias: If True, there is b.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.
        UnknownNameError: an unknown candidate.

    Source: L. Feng et al., "Were RNNs all we needed?" (2024).
    """

    gates = ("update", "new")
    write_gates = ("update",)

    def _terms(self, x: Gates) -> tuple[Tensor, Tensor]:
        z = x[0].sigmoid()
        return 1 - z, z * self._new(x[1])


@final
class MinLSTMCell(_LinearInItsPast):
    """minLSTM: gates of the input alone, whose sum is 1 (Feng et al. 2024).

        i, f = sigmoid(x_i), sigmoid(x_f)        n = g(x_n)
        h_t = f / (f + i) * h_{t-1} + i / (f + i) * n

    `engine="scan"` runs it in parallel over time.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        candidate: g, as in `MinGRUCell`.
        bias: If True, there is b.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.
        UnknownNameError: an unknown candidate.

    Source: L. Feng et al., "Were RNNs all we needed?" (2024).
    """

    gates = ("input", "forget", "new")
    remember_gates = ("forget",)
    write_gates = ("input",)

    def _terms(self, x: Gates) -> tuple[Tensor, Tensor]:
        i, f = x[0].sigmoid(), x[1].sigmoid()
        return f / (f + i), i / (f + i) * self._new(x[2])


@CELLS.register("mingru")
def _mingru(input_size: int, hidden_size: int, *, candidate: Candidate = "positive") -> MinGRUCell:
    """A GRU whose gates see the input alone (Feng et al. 2024)."""
    return MinGRUCell(input_size, hidden_size, candidate=candidate)


@CELLS.register("minlstm")
def _minlstm(
    input_size: int, hidden_size: int, *, candidate: Candidate = "positive"
) -> MinLSTMCell:
    """An LSTM whose gates see the input alone (Feng et al. 2024)."""
    return MinLSTMCell(input_size, hidden_size, candidate=candidate)
