"""The Diagonal BiLSTM: LSTMs over an image from both upper corners."""

import functools
from typing import Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.cells.lstm import LSTMCell
from throughtime.core.capture import capturing, transformed
from throughtime.core.cell import bind
from throughtime.core.errors import UnknownNameError
from throughtime.engines.engine import Request
from throughtime.engines.select import choose, run
from throughtime.models.causal_convolution import CausalConvolution
from throughtime.models.raster_density import CausalLayer
from throughtime.models.row_lstm import lstm_step

Engine: TypeAlias = Literal["auto", "native", "eager"]

_CLOSED = -1e4  # of the gates i, f and o: sigmoid(-1e4) is 0, and so is its derivative


@final
class DiagonalBiLSTM(CausalLayer):
    """Two LSTMs over an image: from its upper left corner, and from its upper right one.

        left[r, c]:   u = W x[r, c] + U left[r, c - 1] + V left[r - 1, c]
                      i, f, o = sigmoid(u_i, u_f, u_o)    g = tanh(u_g)
                      memory[r, c] = f * memory[r, c - 1] + i * g
                      left[r, c] = o * tanh(memory[r, c])
        right[r, c]:  likewise from right[r, c + 1] and right[r - 1, c], with weights of its own, of
                      (x[r, c], image[r, c])
        y[r, c] = left[r, c] + right[r - 1, c]

    States beyond the image are 0. `right` is shifted down by one row, so that no later pixel is
    read. W has mask B. Of `right` nothing is masked: all colours of the row above are earlier. As
    in an LSTM, i and f read the memory of the pixel before alone; the pixel above enters through
    its output.

    Pixels of a diagonal do not depend on each other. The eager form computes diagonal after
    diagonal, of the pixels in the image alone: the image is not skewed, which would double its
    columns. On the CPU with a compiler the image is one sequence in raster order, whose LSTM reads
    its outputs of 1 and of width + 1 steps ago; between two rows a step with closed gates sets its
    state to 0.

    Arguments:
        inputs: The features that are read.
        hidden: The number of units of each direction.
        colours: The number of colours of a pixel.
        engine: "auto", "native" for compiled code, or "eager" for diagonals in torch.

    Raises:
        ConfigurationError: Fewer features or units than colours.
        UnknownNameError: No engine of that name.

    Example:
        >>> layer = DiagonalBiLSTM(4, 3)
        >>> layer(torch.zeros(5, 6, 2, 4), torch.zeros(5, 6, 2, 1)).shape
        torch.Size([5, 6, 2, 3])

    Source:
        van den Oord et al. 2016, Pixel recurrent neural networks.

    Differs from the paper in:
        `right` reads the pixels of its row, too. The features at the last pixel of a row read the
        pixels before it, so that without this the last pixel would not reach the first ones of the
        next row. Weights are drawn as torch's LSTM draws them: our choice.
    """

    def __init__(self, inputs: int, hidden: int, *, colours: int = 1, engine: Engine = "auto"):
        super().__init__()
        if engine not in ("auto", "native", "eager"):
            raise UnknownNameError("engine", engine, ("auto", "native", "eager"))
        self.outputs = hidden
        masked = CausalConvolution(inputs, 4 * hidden, colours=colours, blocks=4)
        self.left = _Direction(masked, hidden, engine)
        whole = CausalConvolution(inputs + colours, 4 * hidden)
        self.right = _Direction(whole, hidden, engine)

    def forward(
        self,
        x: Float[Tensor, "height width batch inputs"],
        image: Float[Tensor, "height width batch colours"],
    ) -> Float[Tensor, "height width batch outputs"]:
        """Return y for a whole image."""
        read = torch.cat([x, image], -1)[:-1].flip(1)
        right = self.right(read).flip(1) if len(read) else read[..., : self.outputs]
        return self.left(x) + F.pad(right, (0, 0, 0, 0, 0, 0, 1, 0))

    def memory(self, x: Float[Tensor, "height width batch inputs"]) -> tuple[Tensor, ...]:
        """Return outputs and memories of both directions."""
        return tuple(x.new_zeros(*x.shape[:3], self.outputs) for _ in range(4))

    def at(
        self,
        x: Float[Tensor, "height width batch inputs"],
        image: Float[Tensor, "height width batch colours"],
        memory: tuple[Tensor, ...],
        row: int,
        column: int,
    ) -> Float[Tensor, "batch outputs"]:
        """Return y at one pixel; in the first column, `right` is computed for the row above."""
        left, left_memory, right, right_memory = memory
        if row and column == 0:
            read = torch.cat([x[row - 1], image[row - 1]], -1)
            for c in reversed(range(x.shape[1])):
                self.right.at(read[c], (right, right_memory), row - 1, c, c + 1)
        self.left.at(x[row, column], (left, left_memory), row, column, column - 1)
        found = left[row, column]
        return found + right[row - 1, column] if row else found


@final
class _Direction(nn.Module):
    """The LSTM from the upper left corner."""

    def __init__(self, inputs: CausalConvolution, hidden: int, engine: Engine):
        super().__init__()
        self.engine = engine
        bound = hidden**-0.5
        self.inputs = inputs
        self.before, self.above = (
            nn.Parameter(torch.empty(4 * hidden, hidden).uniform_(-bound, bound)) for _ in range(2)
        )
        for parameter in inputs.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self, x: Float[Tensor, "height width batch inputs"]
    ) -> Float[Tensor, "height width batch hidden"]:
        """Return the outputs at all pixels."""
        plain = self.engine == "native" or not (capturing() or transformed() or not x.is_cpu)
        if self.engine != "eager" and plain:
            request = self._request(x)
            name = "native" if self.engine == "native" else choose(request)[1].engine
            if name == "native":
                height, width, *_ = x.shape
                h = run(request, "native").outputs
                return h.unflatten(0, (height, width + 1))[:, :width]
        return self._by_diagonals(x)

    def _request(self, x: Tensor) -> Request:
        """Return the image as one sequence in raster order, with a step after each row."""
        width, batch, inputs = x.shape[1:]
        steps = F.pad(x, (0, 1, 0, 0, 0, 1))
        with torch.no_grad():  # its gradient is that of a constant
            steps[:, width, :, inputs] = 1
        weight = self.inputs.masked()
        i, f, g, o = weight.new_zeros(len(weight), 1).chunk(4)
        closed = torch.cat([i + _CLOSED, f + _CLOSED, g, o + _CLOSED])
        tensors = {
            "weight_ih": torch.cat([weight, closed], 1),
            "weight_hh": self.before,
            f"weight_hh_lag{width + 1}": self.above,
            "bias_ih": self.inputs.bias,
        }
        cell = bind(_raster_cell(inputs + 1, self.before.shape[1], width + 1), tensors)
        cell._parameters["bias_hh"] = None
        state = cell.initial_state(batch, dtype=x.dtype, device=x.device)
        return Request(cell, steps.flatten(0, 1), state)

    def _by_diagonals(self, x: Tensor) -> Tensor:
        height, width, batch, _ = x.shape
        spans, order = _diagonals(height, width)
        gates = self.inputs(x).flatten(0, 1)[order].split([len(span) for span in spans])
        weight = torch.cat([self.before, self.above], 1)
        h = c = x.new_zeros(0, batch, self.before.shape[1])
        first, found = 0, []
        for u, rows in zip(gates, spans, strict=True):
            # a row of zeros on both sides: the states beyond the image
            h, c = (F.pad(s, (0, 0, 0, 0, 1, 1)) for s in (h, c))
            at, count = rows.start - first + 1, len(rows)
            read = torch.cat([h[at : at + count], h[at - 1 : at - 1 + count]], -1)
            h, c = lstm_step(u + F.linear(read, weight), c[at : at + count])
            first = rows.start
            found.append(h)
        return torch.cat(found)[order.argsort()].unflatten(0, (height, width))

    def at(
        self, x: Tensor, memory: tuple[Tensor, Tensor], row: int, column: int, before: int
    ) -> None:
        """Add the output and the memory of one pixel to their maps."""
        outputs, memories = memory
        u, c = self.inputs.alone(x), torch.zeros_like(outputs[0, 0])
        if 0 <= before < outputs.shape[1]:
            u = u + F.linear(outputs[row, before], self.before)
            c = memories[row, before]
        if row:
            u = u + F.linear(outputs[row - 1, column], self.above)
        outputs[row, column], memories[row, column] = lstm_step(u, c)


@functools.cache
def _raster_cell(inputs: int, hidden: int, lag: int) -> LSTMCell:
    """Return an LSTM that reads its outputs of 1 and of `lag` steps ago; it has no values."""
    return LSTMCell(inputs, hidden, lags=(1, lag), device="meta")


def _diagonals(height: int, width: int) -> tuple[list[range], Int[Tensor, " pixels"]]:
    """Return the rows of each diagonal, and its pixels, all in order, by number."""
    spans = [
        range(max(0, t - width + 1), min(t, height - 1) + 1) for t in range(height + width - 1)
    ]
    order = [r * width + t - r for t, rows in enumerate(spans) for r in rows]
    return spans, torch.tensor(order)
