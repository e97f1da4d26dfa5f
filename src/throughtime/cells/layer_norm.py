"""Layer-normalised LSTM and GRU."""

import abc
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell, add_weights, set_sizes
from throughtime.core.registry import CELLS
from throughtime.core.state import State, zero_state

_EPSILON = 1e-5


class _Normalised(Cell, abc.ABC):
    """A cell of torch's weights without biases, with layer normalisations of some widths."""

    _norms: ClassVar[dict[str, int]]  # widths of the normalisations, in units, by name

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gain: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        set_sizes(self, input_size, hidden_size)
        add_weights(self, len(self.gate_names), bias=False, device=device, dtype=dtype)
        where = {"device": device, "dtype": dtype}
        for name, units in self._norms.items():
            first = torch.full((units * hidden_size,), gain, **where)
            self.register_parameter(f"gain_{name}", nn.Parameter(first))
            self.register_parameter(f"bias_{name}", nn.Parameter(torch.zeros_like(first)))

    def _norm(self, name: str, a: Tensor) -> Tensor:
        gain, bias = getattr(self, f"gain_{name}"), getattr(self, f"bias_{name}")
        return F.layer_norm(a, (a.shape[-1],), gain, bias, _EPSILON)


@CELLS.register("lstm-layer-norm")
@final
class LayerNormLSTMCell(_Normalised):
    """LSTM with layer normalisation (Ba, Kiros and Hinton 2016).

        i, f, g, o = LN(W_ih x_t) + LN(W_hh h_{t-1})        each LN over all four gates
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(LN(c_t))
        LN(a) = gain * (a - mean) / sqrt(variance + 1e-5) + bias

    Not gated: LN needs all units at once.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1; with 1, LN of c is its bias alone.
        gain: first value of all gains.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.

    Source: J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016.

    Differs from the paper in: the biases of LN are the only ones, as b beside them would be one too
    many.
    """

    gate_names = ("input", "forget", "cell", "output")
    activations = ("sigmoid", "sigmoid", "tanh", "sigmoid")
    remember_gates = ("forget",)
    write_gates = ("input",)
    _norms: ClassVar[dict[str, int]] = {"ih": 4, "hh": 4, "memory": 1}

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros: h and c (batch, hidden)."""
        width = self.hidden_size
        return zero_state(batch_size, dtype=dtype, device=device, h=width, c=width)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps rows"]:
        """Return LN(W_ih x)."""
        return self._norm("ih", F.linear(x, self.weight_ih))

    def step(
        self, projected: Float[Tensor, "batch rows"], state: State
    ) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Return h_t, and the state (h_t, c_t)."""
        gates = projected + self._norm("hh", F.linear(state.h, self.weight_hh))
        i, f, g, o = gates.chunk(4, -1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * self._norm("memory", c).tanh()
        return h, type(state)(h, c)


@CELLS.register("gru-layer-norm")
@final
class LayerNormGRUCell(_Normalised):
    """GRU with layer normalisation (Ba, Kiros and Hinton 2016).

        r, z = sigmoid(LN(W x_t) + LN(U h_{t-1}))              each LN over both gates
        n = tanh(LN(W_n x_t) + r * LN(U_n h_{t-1}))
        h_t = (1 - z) * n + z * h_{t-1}

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        gain: first value of all gains.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.

    Source: J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016.

    Differs from the paper in: z keeps the old state, as in torch's GRU, where the paper's keeps the
    new one.
    """

    gate_names = ("reset", "update", "new")
    activations = ("sigmoid", "sigmoid", "tanh")
    remember_gates = ("update",)
    _norms: ClassVar[dict[str, int]] = {"ih": 2, "ih_new": 1, "hh": 2, "hh_new": 1}

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros: h (batch, hidden)."""
        return zero_state(batch_size, dtype=dtype, device=device, h=self.hidden_size)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps rows"]:
        """Return LN(W x) and LN(W_n x)."""
        return self._both("ih", F.linear(x, self.weight_ih))

    def step(
        self, projected: Float[Tensor, "batch rows"], state: State
    ) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Return h_t, and the state (h_t,)."""
        x_r, x_z, x_n = projected.chunk(3, -1)
        u_r, u_z, u_n = self._both("hh", F.linear(state.h, self.weight_hh)).chunk(3, -1)
        r, z = (x_r + u_r).sigmoid(), (x_z + u_z).sigmoid()
        h = (1 - z) * (x_n + r * u_n).tanh() + z * state.h
        return h, type(state)(h)

    def _both(self, name: str, a: Tensor) -> Tensor:
        gates, new = a.split((2 * self.hidden_size, self.hidden_size), -1)
        return torch.cat([self._norm(name, gates), self._norm(f"{name}_new", new)], -1)
