"""Hard-threshold units."""

from typing import final

import torch
from torch import Tensor

from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State


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
