"""The trainable flip-flop of 1993: a unit of two states that its input sets, resets or leaves."""

from typing import final

import torch
from torch import Tensor

from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State


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
