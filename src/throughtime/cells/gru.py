"""Gated recurrent units: torch's, that of Cho et al. (2014), and the minimal one."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell, add_weights, set_sizes
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State, zero_state


@CELLS.register("gru")
@final
class GRUCell(GatedCell):
    """The gated recurrent unit as torch and cuDNN define it.

        r, z = sigmoid(x + u)                                      rows in order r, z, n
        n = tanh(x_n + r * u_n)
        h_t = (1 - z) * n + z * h_{t-1}

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.

    Differs from the paper in: the reset gate acts after the product with h_{t-1} and its bias,
    which makes the cell elementwise; `ChoGRUCell` is the paper's.
    """

    gates = ("reset", "update", "new")
    activations = ("sigmoid", "sigmoid", "tanh")
    remember_gates = ("update",)
    torch_equivalent = "GRU"

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return h_t."""
        r = (x[0] + u[0]).sigmoid()
        z = (x[1] + u[1]).sigmoid()
        n = (x[2] + r * u[2]).tanh()
        return (1 - z) * n + z * state.h


@CELLS.register("gru-cho")
@final
class ChoGRUCell(Cell):
    """The gated recurrent unit of Cho et al. (2014): the reset gate acts before the product.

        r, z = sigmoid(x + U h_{t-1})                              rows in order r, z, n
        n = tanh(x_n + U_n (r * h_{t-1}))
        h_t = z * h_{t-1} + (1 - z) * n

    Not gated: n takes a second matrix product within the step.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.

    Differs from the paper in: two biases a gate, as torch has (our choice).
    """

    gate_names = ("reset", "update", "new")
    activations = ("sigmoid", "sigmoid", "tanh")
    remember_gates = ("update",)

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        set_sizes(self, input_size, hidden_size)
        add_weights(self, 3, bias=bias, device=device, dtype=dtype)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros: h (batch, hidden)."""
        return zero_state(batch_size, dtype=dtype, device=device, h=self.hidden_size)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps rows"]:
        """Return W_ih x + b_ih."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(
        self, projected: Float[Tensor, "batch rows"], state: State
    ) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Return h_t, and the state (h_t,)."""
        width = self.hidden_size
        gates, new = self.weight_hh.split((2 * width, width))
        b_gates, b_new = (
            (None, None) if self.bias_hh is None else self.bias_hh.split((2 * width, width))
        )
        x_gates, x_new = projected.split((2 * width, width), -1)
        r, z = (x_gates + F.linear(state.h, gates, b_gates)).sigmoid().chunk(2, -1)
        n = (x_new + F.linear(r * state.h, new, b_new)).tanh()
        h = z * state.h + (1 - z) * n
        return h, type(state)(h)


@CELLS.register("mgu")
@final
class MinimalGatedUnitCell(GatedCell):
    """The minimal gated unit (Zhou et al. 2016): one gate forgets and writes.

        f = sigmoid(x_f + u_f)        n = tanh(x_n + f * u_n)
        h_t = (1 - f) * h_{t-1} + f * n

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.

    Source: G.-B. Zhou et al., "Minimal gated unit for recurrent neural networks" (2016).

    Differs from the paper in: the gate acts after the product with h_{t-1}, as in torch's GRU,
    which makes the cell elementwise.
    """

    gates = ("forget", "new")
    write_gates = ("forget",)

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return h_t."""
        f = (x[0] + u[0]).sigmoid()
        n = (x[1] + f * u[1]).tanh()
        return (1 - f) * state.h + f * n
