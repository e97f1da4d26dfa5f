"""The Diagonal BiLSTM: LSTMs over an image from both upper corners."""

import functools
from typing import Any, Literal, TypeAlias, final

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
        self.left = _Direction(masked, hidden, engine, mirrored=False)
        whole = CausalConvolution(inputs + colours, 4 * hidden)
        self.right = _Direction(whole, hidden, engine, mirrored=True)

    def forward(
        self,
        x: Float[Tensor, "height width batch inputs"],
        image: Float[Tensor, "height width batch colours"],
    ) -> Float[Tensor, "height width batch outputs"]:
        """Return y for a whole image."""
        return self.left(x) + F.pad(self.right(x, image), (0, 0, 0, 0, 0, 0, 1, -1))

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
    """The LSTM from one of the upper corners: the left one, or of mirrored images the right one."""

    def __init__(self, inputs: CausalConvolution, hidden: int, engine: Engine, *, mirrored: bool):
        super().__init__()
        self.engine, self.mirrored = engine, mirrored
        bound = hidden**-0.5
        self.inputs = inputs
        self.before, self.above = (
            nn.Parameter(torch.empty(4 * hidden, hidden).uniform_(-bound, bound)) for _ in range(2)
        )
        for parameter in inputs.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self, *maps: Float[Tensor, "height width batch _"]
    ) -> Float[Tensor, "height width batch hidden"]:
        """Return the outputs at all pixels, from the features of one or more maps."""
        h = self._compiled(maps)
        if h is None:
            x = torch.cat(maps, -1)
            h = self._by_diagonals(x.flip(1) if self.mirrored else x)
        return h.flip(1) if self.mirrored else h

    def _compiled(self, maps: tuple[Tensor, ...]) -> Tensor | None:
        if self.engine == "eager":
            return None
        if self.engine == "auto" and (capturing() or transformed() or not maps[0].is_cpu):
            return None
        request = self._request(maps)
        if self.engine == "auto" and choose(request)[1].engine != "native":
            return None
        height, width, *_ = maps[0].shape
        return run(request, "native").outputs.unflatten(0, (height, width + 1))[:, :width]

    def _request(self, maps: tuple[Tensor, ...]) -> Request:
        """Return the image as one sequence, whose cell has one input more: it closes the gates."""
        steps: Tensor = _RasterOrder.apply(self.mirrored, *maps)
        width, batch = maps[0].shape[1:3]
        inputs = self.inputs.weight.shape[1]
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
        state = cell.initial_state(batch, dtype=steps.dtype, device=steps.device)
        return Request(cell, steps, state)

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


@final
class _RasterOrder(torch.autograd.Function):
    """Maps, copied once, as a sequence: a step for each pixel, and one at the end of each row.

    The last input is 0, and 1 at the end of a row, where the others are 0.
    """

    @staticmethod
    def forward(ctx: Any, mirrored: bool, *maps: Tensor) -> Tensor:
        ctx.mirrored, ctx.widths = mirrored, [m.shape[-1] for m in maps]
        height, width, batch, _ = maps[0].shape
        ctx.height = height
        steps = maps[0].new_empty(height, width + 1, batch, sum(ctx.widths) + 1)
        steps[..., -1] = 0
        steps[:, width] = 0
        steps[:, width, :, -1] = 1
        parts = steps[:, :width, :, :-1].split(ctx.widths, -1)
        for part, own in zip(parts, maps, strict=True):
            part.copy_(own.flip(1) if mirrored else own)
        return steps.flatten(0, 1)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        (d_steps,) = gradients
        d_maps = d_steps.unflatten(0, (ctx.height, -1))[:, :-1, :, :-1].split(ctx.widths, -1)
        needed = zip(d_maps, ctx.needs_input_grad[1:], strict=True)
        return None, *(
            (d.flip(1) if ctx.mirrored else d) if wanted else None for d, wanted in needed
        )


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
