"""The minimal gated unit: one gate."""

from typing import final

from torch import Tensor

from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State


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
