"""The Row LSTM: an LSTM whose steps are the rows of an image."""

import functools
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.cells.lstm import LSTMCell
from throughtime.core.gated import gates_of
from throughtime.core.state import state_type
from throughtime.models.causal_convolution import CausalConvolution
from throughtime.models.raster_density import CausalLayer


@final
class RowLSTM(CausalLayer):
    """An LSTM from row to row, whose states are read by a convolution.

        u[r, c] = b + W_0 x[r, c - 1] + W_1 x[r, c]
                  + U_- y[r - 1, c - 1] + U_0 y[r - 1, c] + U_+ y[r - 1, c + 1]
        i, f, o = sigmoid(u_i, u_f, u_o)    g = tanh(u_g)
        memory[r, c] = f * memory[r - 1, c] + i * g
        y[r, c] = o * tanh(memory[r, c])

    States beyond the image are 0. W_1 has mask B. A pixel reads a triangle above it: of k rows
    above, k columns on each side.

    Arguments:
        inputs: The features that are read.
        hidden: The number of units of a pixel.
        colours: The number of colours of a pixel.

    Raises:
        ConfigurationError: Fewer features or units than colours.

    Example:
        >>> layer = RowLSTM(4, 3)
        >>> layer(torch.zeros(5, 6, 2, 4), torch.zeros(5, 6, 2, 1)).shape
        torch.Size([5, 6, 2, 3])

    Source:
        van den Oord et al. 2016, Pixel recurrent neural networks.

    Differs from the paper in:
        Weights are drawn as torch's LSTM draws them: our choice.
    """

    def __init__(self, inputs: int, hidden: int, *, colours: int = 1):
        super().__init__()
        self.outputs = hidden
        self.inputs = CausalConvolution(inputs, 4 * hidden, beside=1, colours=colours, blocks=4)
        self.above = nn.Parameter(torch.empty(4 * hidden, 3 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(
        self,
        x: Float[Tensor, "height width batch inputs"],
        image: Float[Tensor, "height width batch colours"],
    ) -> Float[Tensor, "height width batch outputs"]:
        """Return y for a whole image."""
        del image
        u, width = self.inputs(x), x.shape[1]
        h, c = lstm_step(u[0], u.new_zeros(*u.shape[1:3], self.outputs))
        rows = [h]
        for u_r in u[1:]:
            h = F.pad(h, (0, 0, 0, 0, 1, 1))
            read = torch.cat([h[j : j + width] for j in range(3)], -1)
            h, c = lstm_step(u_r + F.linear(read, self.above), c)
            rows.append(h)
        return torch.stack(rows)

    def memory(self, x: Float[Tensor, "height width batch inputs"]) -> tuple[Tensor, ...]:
        """Return outputs, with a column more on each side, and memories."""
        height, width, batch, _ = x.shape
        h = x.new_zeros(height, width + 2, batch, self.outputs)
        return h, x.new_zeros(height, width, batch, self.outputs)

    def at(
        self,
        x: Float[Tensor, "height width batch inputs"],
        image: Float[Tensor, "height width batch colours"],
        memory: tuple[Tensor, ...],
        row: int,
        column: int,
    ) -> Float[Tensor, "batch outputs"]:
        """Return y at one pixel."""
        del image
        h, c = memory
        u, before = self.inputs.at(x, row, column), torch.zeros_like(c[0, 0])
        if row:
            read = torch.cat([*h[row - 1, column : column + 3]], -1)
            u, before = u + F.linear(read, self.above), c[row - 1, column]
        h[row, column + 1], c[row, column] = lstm_step(u, before)
        return h[row, column + 1]


def lstm_step(
    sums: Float[Tensor, "*pixels gates"], memory: Float[Tensor, "*pixels hidden"]
) -> tuple[Float[Tensor, "*pixels hidden"], Float[Tensor, "*pixels hidden"]]:
    """Return the output and the memory of an LSTM's step; the equations are `LSTMCell`'s.

    Arguments:
        sums: The gates i, f, g, o before their nonlinearities.
        memory: The memory before the step.
    """
    return _cell().pointwise(*gates_of(sums.chunk(4, -1)), state_type("c")(memory))


@functools.cache
def _cell() -> LSTMCell:
    return LSTMCell(1, 1, device="meta")
