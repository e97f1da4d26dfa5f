"""The unit of the 1994 paper's analysis: one tanh unit that holds a bit against noise."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.core.state import State, zero_state


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
