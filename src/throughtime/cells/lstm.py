"""Long short-term memory in the forms of its history."""

import abc
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell, add_weights, check_size, draw, set_sizes
from throughtime.core.errors import ConfigurationError
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State, zero_state


class _WithPeepholes(GatedCell, abc.ABC):
    """A cell whose input, forget and output gates may see the memory."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        peepholes: bool = False,
        lags: Sequence[int] = (1,),
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, lags=lags, bias=bias, device=device, dtype=dtype)
        self.peepholes = peepholes
        if peepholes or self.lags != (1,):
            self.torch_equivalent = None
        if not peepholes:
            return
        for gate in self.gate_names:
            if gate != "cell":
                peephole = draw(self, hidden_size, device=device, dtype=dtype)
                self.register_parameter(f"peephole_{gate}", peephole)


@final
class LSTMCell(_WithPeepholes):
    """LSTM with a forget gate (Gers et al. 2000), torch's, with peepholes on request.

        i, f, o = sigmoid(x + u)   g = tanh(x + u)        rows in torch's order i, f, g, o
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)

    With peepholes (Gers and Schmidhuber 2000) i and f also see p * c_{t-1}, and o sees p * c_t.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        peepholes: adds `peephole_input`, `peephole_forget` and `peephole_output`, (hidden,) each.
        lags: increasing positive numbers of steps: past outputs that the gates read.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, or bad lags.

    Example:
        >>> cell = LSTMCell(3, 5)
        >>> state = cell.initial_state(2, dtype=torch.float32, device=torch.device("cpu"))
        >>> h, state = cell.step(cell.project(torch.ones(2, 3)), state)
        >>> state.c.shape
        torch.Size([2, 5])

    Differs from the paper in: cells share no gates (blocks of size one), and only outputs h, not
    gates, are fed back.
    """

    gates = ("input", "forget", "cell", "output")
    activations = ("sigmoid", "sigmoid", "tanh", "sigmoid")
    memories = ("c",)
    remember_gates = ("forget",)
    write_gates = ("input",)
    torch_equivalent = "LSTM"

    def pointwise(self, x: Gates, u: Gates, state: State) -> tuple[Tensor, Tensor]:
        """Return h_t and c_t."""
        i, f, g, o = (a + b for a, b in zip(x, u, strict=True))
        if self.peepholes:
            i = i + self.peephole_input * state.c
            f = f + self.peephole_forget * state.c
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        if self.peepholes:
            o = o + self.peephole_output * c
        return o.sigmoid() * c.tanh(), c


@CELLS.register("lstm-coupled")
@final
class CoupledLSTMCell(_WithPeepholes):
    """LSTM whose input gate is what the forget gate leaves (Greff et al. 2015).

        f, o = sigmoid(x + u)   g = tanh(x + u)                    rows in order f, g, o
        c_t = f * c_{t-1} + (1 - f) * g
        h_t = o * tanh(c_t)

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        peepholes: adds `peephole_forget` and `peephole_output`, (hidden,) each.
        lags: increasing positive numbers of steps: past outputs that the gates read.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, or bad lags.
    """

    gates = ("forget", "cell", "output")
    activations = ("sigmoid", "tanh", "sigmoid")
    memories = ("c",)
    remember_gates = ("forget",)

    def pointwise(self, x: Gates, u: Gates, state: State) -> tuple[Tensor, Tensor]:
        """Return h_t and c_t."""
        f, g, o = (a + b for a, b in zip(x, u, strict=True))
        if self.peepholes:
            f = f + self.peephole_forget * state.c
        f = f.sigmoid()
        c = f * state.c + (1 - f) * g.tanh()
        if self.peepholes:
            o = o + self.peephole_output * c
        return o.sigmoid() * c.tanh(), c


@CELLS.register("lstm-1997")
@final
class LSTM1997Cell(GatedCell):
    """LSTM as first published, without a forget gate (Hochreiter and Schmidhuber 1997).

        i, o = sigmoid(x + u)                                      rows in order i, g, o
        c_t = c_{t-1} + i * (4 sigmoid(g) - 2)
        h_t = o * (2 sigmoid(c_t) - 1)

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.

    Differs from the paper in: blocks have one cell each; only outputs h, not gates, are fed back;
    the gradient is exact, where the paper cuts it at the gates; weights are drawn as torch's.
    """

    gates = ("input", "cell", "output")
    activations = ("sigmoid", "tanh", "sigmoid")
    memories = ("c",)
    write_gates = ("input",)

    def pointwise(self, x: Gates, u: Gates, state: State) -> tuple[Tensor, Tensor]:
        """Return h_t and c_t."""
        i, g, o = (a + b for a, b in zip(x, u, strict=True))
        c = state.c + i.sigmoid() * (4 * g.sigmoid() - 2)
        return o.sigmoid() * (2 * c.sigmoid() - 1), c


@final
class ProjectedLSTMCell(Cell):
    """LSTM whose output is a linear map of the gated memory (Sak et al. 2014), torch's `proj_size`.

        c_t as in LSTMCell;  h_t = W_hr (o * tanh(c_t))

    Not gated: h_t takes a second matrix product within the step.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of memory cells, at least 2.
        proj_size: width of h_t, from 1 to hidden_size - 1.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size out of range.
    """

    gate_names = ("input", "forget", "cell", "output")
    activations = ("sigmoid", "sigmoid", "tanh", "sigmoid")
    remember_gates = ("forget",)
    write_gates = ("input",)
    torch_equivalent = "LSTM"  # with weight_hr beside the other weights

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        proj_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        check_size("proj_size", proj_size)
        if proj_size >= hidden_size:
            raise ConfigurationError(
                "proj_size", got=proj_size, expected=f"less than hidden_size={hidden_size}"
            )
        set_sizes(self, input_size, hidden_size, proj_size)
        add_weights(self, 4, bias=bias, device=device, dtype=dtype)
        self.weight_hr = draw(self, proj_size, hidden_size, device=device, dtype=dtype)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros: h (batch, proj), c (batch, hidden)."""
        widths = {"h": self.output_size, "c": self.hidden_size}
        return zero_state(batch_size, dtype=dtype, device=device, **widths)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps rows"]:
        """Return W_ih x + b_ih."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(
        self, projected: Float[Tensor, "batch rows"], state: State
    ) -> tuple[Float[Tensor, "batch proj"], State]:
        """Return h_t, and the state (h_t, c_t)."""
        i, f, g, o = (projected + F.linear(state.h, self.weight_hh, self.bias_hh)).chunk(4, -1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h = F.linear(o.sigmoid() * c.tanh(), self.weight_hr)
        return h, type(state)(h, c)


@CELLS.register("lstm")
def _lstm(
    input_size: int, hidden_size: int, *, projection: int = 0, bias: bool = True
) -> LSTMCell | ProjectedLSTMCell:
    """Long short-term memory with a forget gate (Gers et al. 2000), as torch's."""
    if projection:
        return ProjectedLSTMCell(input_size, hidden_size, proj_size=projection, bias=bias)
    return LSTMCell(input_size, hidden_size, bias=bias)


@CELLS.register("lstm-peephole")
def _lstm_peephole(input_size: int, hidden_size: int) -> LSTMCell:
    """An LSTM whose gates see the memory (Gers and Schmidhuber 2000)."""
    return LSTMCell(input_size, hidden_size, peepholes=True)
