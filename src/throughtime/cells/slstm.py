"""The LSTM with exponential gates, a normaliser and heads."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State


@CELLS.register("slstm")
@final
class SLSTMCell(GatedCell):
    """sLSTM: exponential input gate, stabilised, with a normaliser and heads (Beck et al. 2024).

        i, f, z, o = x + u                                       rows in order i, f, z, o
        m_t = max(log sigmoid(f) + m_{t-1}, i)                   i at the first step
        c_t = exp(log sigmoid(f) + m_{t-1} - m_t) c_{t-1} + exp(i - m_t) tanh(z)
        n_t = exp(log sigmoid(f) + m_{t-1} - m_t) n_{t-1} + exp(i - m_t)
        h_t = sigmoid(o) c_t / n_t

    h_t does not depend on m_t, which keeps all exponents at or below 0. Past outputs reach units of
    their own head alone.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        heads: number of blocks of each recurrent matrix, a divisor of the hidden size.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, or heads that do not divide the hidden size.

    Example:
        >>> cell = SLSTMCell(3, 8, heads=4)
        >>> cell.weight_hh.shape
        torch.Size([32, 2])

    Source:
        Beck et al., "xLSTM: Extended Long Short-Term Memory", NeurIPS 2024, equations 8 to 18.

    Differs from the paper in: the forget gate is the sigmoid, one of the paper's two forms; the
    block around the cell (convolution, normalisation, projections) is left to the model.
    """

    gates = ("input", "forget", "cell", "output")
    memories = ("c", "n", "m")
    remember_gates = ("forget",)
    write_gates = ("input",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            input_size, hidden_size, heads=heads, bias=bias, device=device, dtype=dtype
        )

    def pointwise(self, x: Gates, u: Gates, state: State) -> tuple[Tensor, ...]:
        """Return h_t, c_t, n_t and m_t."""
        i, f, z, o = (a + b for a, b in zip(x, u, strict=True))
        kept = state.m - F.softplus(-f)  # log sigmoid(f) + m
        # without a past the normaliser is 0, and the input gate alone sets the scale
        m = torch.where(state.n == 0, i, torch.maximum(kept, i))
        keep, write = (kept - m).exp(), (i - m).exp()
        keep = torch.where(state.n == 0, torch.zeros_like(keep), keep)
        c = keep * state.c + write * z.tanh()
        n = keep * state.n + write
        return o.sigmoid() * c / n, c, n, m
