"""Deep transitions and deep outputs: more than one layer between states, or above them."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.cells.elman import NONLINEARITIES, Nonlinearity
from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.errors import UnknownNameError
from throughtime.core.state import State, state_type, zero_state
from throughtime.core.weights import check_size, draw


@final
class DeepTransitionCell(Cell):
    """A network whose step has several layers, DT and DT(S) (Pascanu et al. 2014).

        a_1 = g(V x_t + W h_{t-1} + b_1)        a_k = g(U_k a_{k-1} + b_k)
        h_t = f(U a_depth + b + S h_{t-1})      S with shortcuts alone

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units of h, at least 1.
        depth: layers between h_{t-1} and h_t, at least 1.
        width: units of each of them; `hidden_size` if None.
        shortcut: If True, h_{t-1} also reaches h_t directly, by a matrix of its own.
        nonlinearity: f and g: "tanh", "relu" or "identity".
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size or a depth below 1.
        UnknownNameError: an unknown nonlinearity.

    Source: R. Pascanu et al., "How to construct deep recurrent neural networks", ICLR 2014.

    Differs from the paper in: shortcuts are full matrices, from h alone (our choice).
    """

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    weight_shortcut: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        depth: int = 1,
        width: int | None = None,
        shortcut: bool = False,
        nonlinearity: Nonlinearity = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        width = hidden_size if width is None else width
        for name, value in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("depth", depth),
            ("width", width),
        ):
            check_size(name, value)
        if nonlinearity not in NONLINEARITIES:
            raise UnknownNameError("nonlinearity", str(nonlinearity), NONLINEARITIES)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.depth = depth
        self.nonlinearity: Nonlinearity = nonlinearity
        where = {"device": device, "dtype": dtype}
        self.weight_ih = draw(self, width, input_size, **where)
        self.weight_hh = draw(self, width, hidden_size, **where)
        self.bias_1 = draw(self, width, **where)
        for k in range(2, depth + 1):
            self.register_parameter(f"weight_{k}", draw(self, width, width, **where))
            self.register_parameter(f"bias_{k}", draw(self, width, **where))
        self.weight_out = draw(self, hidden_size, width, **where)
        self.bias_out = draw(self, hidden_size, **where)
        across = draw(self, hidden_size, hidden_size, **where) if shortcut else None
        self.register_parameter("weight_shortcut", across)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros: h (batch, hidden)."""
        return zero_state(batch_size, dtype=dtype, device=device, h=self.hidden_size)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps width"]:
        """Return V x + b_1."""
        return F.linear(x, self.weight_ih, self.bias_1)

    def step(
        self, projected: Float[Tensor, "batch width"], state: State
    ) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Return h_t, and the state (h_t,)."""
        f = NONLINEARITIES[self.nonlinearity]
        a = f(projected + F.linear(state.h, self.weight_hh))
        for k in range(2, self.depth + 1):
            a = f(F.linear(a, getattr(self, f"weight_{k}"), getattr(self, f"bias_{k}")))
        total = F.linear(a, self.weight_out, self.bias_out)
        if self.weight_shortcut is not None:
            total = total + F.linear(state.h, self.weight_shortcut)
        h = f(total)
        return h, type(state)(h)


@final
class DeepOutputCell(Cell):
    """A layer above any cell, before the read-out: DOT (Pascanu et al. 2014).

        y_t = f(W h_t + b)        h_t of the cell, which never reads y

    The state has the fields h (y_t), `inner` (the cell's), and `steps` if the cell has streams.

    Arguments:
        cell: cell below.
        output_size: width of y, at least 1.
        nonlinearity: f: "tanh", "relu" or "identity".

    Raises:
        ConfigurationError: a size below 1.
        UnknownNameError: an unknown nonlinearity.

    Source: R. Pascanu et al., "How to construct deep recurrent neural networks", ICLR 2014.
    """

    def __init__(self, cell: Cell, output_size: int, *, nonlinearity: Nonlinearity = "tanh"):
        super().__init__()
        check_size("output_size", output_size)
        if nonlinearity not in NONLINEARITIES:
            raise UnknownNameError("nonlinearity", str(nonlinearity), NONLINEARITIES)
        self.cell = cell
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.output_size = output_size
        self.streams, self.lasting = cell.streams, cell.lasting
        self.nonlinearity: Nonlinearity = nonlinearity
        first = next(iter(cell.parameters()), torch.zeros(0))
        where = {"device": first.device, "dtype": first.dtype}
        self.weight_out = draw(self, output_size, cell.output_size, **where)
        self.bias_out = draw(self, output_size, **where)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros for y, and the cell's own initial state."""
        inner = self.cell.initial_state(batch_size, dtype=dtype, device=device)
        y = torch.zeros(batch_size, self.output_size, dtype=dtype, device=device)
        if not self.streams:
            return state_type("h", "inner")(y, inner)
        steps = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state_type("h", "inner", "steps")(y, inner, steps)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return the cell's projection."""
        return self.cell.project(x)

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return the cell's streams."""
        return self.cell.draw_streams(steps, training=training, dtype=dtype, generator=generator)

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Return y_t, and the new state."""
        h, inner = advance(self.cell, projected, state.inner, streams)
        y = NONLINEARITIES[self.nonlinearity](F.linear(h, self.weight_out, self.bias_out))
        more = (state.steps + 1,) if self.streams else ()
        return y, type(state)(y, inner, *more)
