"""Units of two states: hard thresholds, the flip-flop of 1993, and the latching unit of 1994."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State, zero_state


@CELLS.register("threshold")
@final
class ThresholdCell(GatedCell):
    """Hard-threshold units, which no gradient goes through.

        h_t = 1 if x + u >= 0, else -1

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.

    Example:
        >>> cell = ThresholdCell(1, 1, bias=False)
        >>> _ = cell.weight_ih.data.fill_(1.0), cell.weight_hh.data.fill_(0.5)
        >>> state = cell.initial_state(1, dtype=torch.float32, device=torch.device("cpu"))
        >>> found = []
        >>> for x in (-1.0, 0.4, -0.4, 0.6):
        ...     h, state = cell.step(cell.project(torch.tensor([[x]])), state)
        ...     found.append(h.item())
        >>> found
        [-1.0, -1.0, -1.0, 1.0]
    """

    gates = ("sign",)

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return h_t, -1 or 1; its gradient is zero."""
        a = x[0] + u[0]
        return torch.where(a >= 0, 1.0, -1.0).to(a.dtype) + 0 * a


@CELLS.register("flip-flop")
@final
class FlipFlopCell(GatedCell):
    """Two-state units that hold what they were, unless their input is large (Bengio et al. 1993).

        a = x + u
        h_t = 1 if a >= 1;  -1 if a <= -1;  else 1 if h_{t-1} >= 0, -1 if h_{t-1} < 0

    Backwards, where the true derivative is 0 almost everywhere, it has a pseudo-gradient: with
    respect to the state, that of h_t where |a| < 1 and 0 elsewhere, equation (11) of the paper;
    with respect to a, that of h_t itself.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.

    Example:
        >>> cell = FlipFlopCell(1, 1, bias=False)
        >>> _ = cell.weight_ih.data.fill_(1.0), cell.weight_hh.data.fill_(0.0)
        >>> state = cell.initial_state(1, dtype=torch.float32, device=torch.device("cpu"))
        >>> found = []
        >>> for x in (0.2, -1.5, 0.9, -0.9, 1.0):
        ...     h, state = cell.step(cell.project(torch.tensor([[x]])), state)
        ...     found.append(h.item())
        >>> found
        [1.0, -1.0, -1.0, -1.0, 1.0]

    Source: Y. Bengio, P. Frasconi and P. Simard, "The problem of learning long-term dependencies in
    recurrent networks", ICNN 1993.

    Differs from the paper in: its equations (9) and (10), for the gate's input, are no gradient;
    `throughtime.learning.TargetPropagation` has the rule in their place. Here the gradient passes
    straight through (our choice).
    """

    gates = ("gate",)

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return h_t, -1 or 1."""
        a = x[0] + u[0]
        one = torch.ones_like(a)
        held = torch.where(state.h >= 0, one, -one)
        hard = torch.where(a >= 1, one, torch.where(a <= -1, -one, held))
        soft = a + torch.where(a.abs() < 1, state.h, 0.0)
        return hard + (soft - soft.detach())


@final
class LatchUnitCell(Cell):
    """One tanh unit that reads its last input, the noise, at a weight of 1 (Bengio et al. 1994).

        h_t = tanh(w h_{t-1} + sum_i v_i x_{t,i} + x_{t,last})        w and v are learned

    Arguments:
        input_size: width of x_t, at least 2.
        hidden_size: 1.
        weight: first value of w. v starts at N(0, 0.1^2), our choice.

    Source: Y. Bengio, P. Simard and P. Frasconi, "Learning long-term dependencies with gradient
    descent is difficult", IEEE Transactions on Neural Networks 5(2), 1994.
    """

    def __init__(self, input_size: int, hidden_size: int = 1, *, weight: float = 1.25):
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.weight_ih = nn.Parameter(0.1 * torch.randn(hidden_size, input_size - 1))
        self.weight_hh = nn.Parameter(torch.full((hidden_size, hidden_size), weight))

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros."""
        return zero_state(batch_size, dtype=dtype, device=device, h=self.hidden_size)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps hidden"]:
        """Return the sum without the past."""
        return nn.functional.linear(x[..., :-1], self.weight_ih) + x[..., -1:]

    def step(
        self, projected: Float[Tensor, "batch hidden"], state: State
    ) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Return h_t, and the state (h_t,)."""
        h = torch.tanh(torch.addmm(projected, state.h, self.weight_hh.t()))
        return h, type(state)(h)
