"""Layers that read images: multidimensional RNN and LSTM, from one to four corners."""

import abc
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from throughtime.core.cell import check_flag, check_size
from throughtime.core.errors import (
    ConfigurationError,
    OptionTypeError,
    ShapeError,
    UnknownNameError,
)
from throughtime.structures import Grid, GridStep, LSTMStep, RNNStep, check_sizes, scan

Block: TypeAlias = tuple[int, int]

# (upwards, leftwards) of each scan: the first two meet at each pixel and have read the whole image
_DIRECTIONS = ((False, False), (True, True), (False, True), (True, False))
_SMALL = 1e-3  # the deviation of recurrent weights


class GridLayer(nn.Module, abc.ABC):
    """A stack of scans over images. `GridRNN` and `GridLSTM` give the step.

    Arguments:
        step: The elementwise function of a pixel.
        input_size: The width of a pixel.
        hidden_size: The units of each scan.
        num_layers: The number of layers on top of each other.
        directions: The number of scans of each layer, from 1 to 4.
        blocks: The height and width of the blocks of pixels that each layer reads as one pixel.
        bias: If True, there is a bias.
        batch_first: If True, inputs and outputs are (batch, height, width, ...).
        device, dtype: The device and dtype of the parameters.

    Raises:
        ConfigurationError: Sizes or options out of range.
        OptionTypeError: A size that is no whole number.

    Attributes:
        output_size: The width of a pixel of the output.
    """

    def __init__(
        self,
        step: GridStep,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        directions: int,
        blocks: Block | Sequence[Block],
        bias: bool,
        batch_first: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ):
        super().__init__()
        named = (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        )
        for name, value in named:
            check_size(name, value)
        check_flag("bias", bias)
        check_flag("batch_first", batch_first)
        if directions not in (1, 2, 3, 4):
            raise ConfigurationError("directions", got=repr(directions), expected="1, 2, 3 or 4")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.directions, self.batch_first = directions, batch_first
        self.blocks = _blocks(blocks, num_layers)
        self.output_size = directions * hidden_size
        self._step = step
        rows, width = step.gates * hidden_size, input_size
        for layer, (height, breadth) in enumerate(self.blocks):
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, width * height * breadth),
                "weight_left": (rows, hidden_size),
                "weight_above": (rows, hidden_size),
            }
            shapes |= {"bias": (rows,)} if bias else {}
            for name, shape in shapes.items():
                values = torch.empty(directions, *shape, device=device, dtype=dtype)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(values))
            if not bias:
                self.register_parameter(f"bias_l{layer}", None)
            width = self.output_size
        self.reset_parameters()

    @abc.abstractmethod
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""

    def output_sizes(self, sizes: Int[Tensor, "batch 2"]) -> Int[Tensor, "batch 2"]:
        """Return the heights and widths of the outputs of images of these sizes.

        Arguments:
            sizes: The heights and widths of images.

        Example:
            >>> GridLSTM(1, 2, blocks=(2, 3)).output_sizes(torch.tensor([[5, 5], [2, 3]])).tolist()
            [[3, 2], [1, 1]]
        """
        for block in self.blocks:
            sizes = _reduced(sizes, block)
        return sizes

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from their defaults."""
        text = f"{self.input_size}, {self.hidden_size}, directions={self.directions}"
        if self.num_layers > 1:
            text += f", num_layers={self.num_layers}"
        if any(block != (1, 1) for block in self.blocks):
            text += f", blocks={self.blocks}"
        return text + (", batch_first=True" if self.batch_first else "")

    @final
    def _run(
        self, x: Tensor, sizes: Any, mask: Tensor | None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return the output, and h and c of each layer at the last pixels: (scan, batch, ...)."""
        layout = "batch, height, width" if self.batch_first else "height, width, batch"
        if x.dim() != 4 or x.shape[3] != self.input_size:
            raise ShapeError(
                f"input of {type(self).__name__}",
                got=f"shape {tuple(x.shape)}",
                expected=f"({layout}, input {self.input_size})",
            )
        if self.batch_first:
            x = x.permute(1, 2, 0, 3)
            mask = None if mask is None else mask.permute(1, 2, 0)
        checked = check_sizes(sizes, mask, *x.shape[:3])
        ends: list[tuple[Tensor, Tensor]] = []
        for layer, block in enumerate(self.blocks):
            if block != (1, 1):
                x, checked = _in_blocks(x, checked, block)
            x, end = self._layer(layer, x, checked)
            ends.append(end)
        return x.permute(2, 0, 1, 3) if self.batch_first else x, ends

    def _layer(
        self, layer: int, x: Tensor, sizes: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the outputs of a layer, 0 beyond each image, and its last states."""
        height, width, batch, _ = x.shape
        grid = Grid.of(height, width, batch, sizes)
        places = torch.stack(
            [grid.places(width, upwards=u, leftwards=v) for u, v in _DIRECTIONS[: self.directions]]
        )
        numbers = places.new_zeros(len(places), height * width * batch)
        numbers.scatter_(1, places, torch.arange(1, places.shape[1] + 1).expand_as(places))
        places, numbers, grid = places.to(x.device), numbers.to(x.device), grid.to(x.device)
        weight_ih, left, above, bias = (
            getattr(self, f"{name}_l{layer}")
            for name in ("weight_ih", "weight_left", "weight_above", "bias")
        )
        read = x.flatten(0, 2).index_select(0, places.flatten()).unflatten(0, places.shape)
        gates = read @ weight_ih.mT if bias is None else bias[:, None] + read @ weight_ih.mT
        h, c = scan(self._step, gates, left, above, grid)
        outputs = torch.cat(
            [own.index_select(0, at) for own, at in zip(h, numbers, strict=True)], 1
        )
        ends = h.index_select(1, grid.last), c.index_select(1, grid.last)
        return outputs.view(height, width, batch, self.output_size), ends


@final
class GridLSTM(GridLayer):
    """A multidimensional LSTM of images, with a forget gate for each of the two neighbours.

        i, f_left, f_above, o = sigmoid(W x + b + W_left h_left + W_above h_above)    g = tanh(...)
        c = f_left * c_left + f_above * c_above + i * g    h = o * tanh(c)

    h_left and h_above are the states at the pixels to the left and above, 0 beyond the image. That
    is the scan from the upper left corner. The others start at the lower right, the upper right and
    the lower left corner, with weights of their own. A diagonal of pixels is computed at once:
    height + width - 1 steps. An image of one row is a sequence, and the layer is then `LSTM`.

    Weights start such that neither the memory nor its gradient explodes: f_left and f_above are
    1/2 for each image, since their weights are 0, and recurrent weights are small. A change of the
    memory at one corner is then multiplied by P = binomial(H + W - 2, H - 1) / 2^(H + W - 2) at the
    opposite one: 0.11 for 28 x 28, 0.036 for 244 x 244. With a forget bias of 1 it is 8.8e7 for
    28 x 28.

    Arguments:
        input_size: The width of a pixel.
        hidden_size: The units of each scan.
        num_layers: The number of layers on top of each other.
        directions: The number of scans of each layer, from 1 to 4, in the order above.
        blocks: The height and width of the blocks of pixels that each layer reads as one pixel, one
            after the other, which makes its images smaller; or one for each layer. Blocks at the
            border are filled up with 0.
        bias: If True, there is b.
        forget_bias: The start of b at f_left and f_above.
        batch_first: If True, inputs and outputs are (batch, height, width, ...).
        device, dtype: The device and dtype of the parameters.

    Attributes:
        weight_ih_l0, weight_left_l0, weight_above_l0, bias_l0: W, W_left, W_above and b of each
            scan of layer 0: (directions, 5 * hidden, ...), rows for i, f_left, f_above, o, g.

    Raises:
        ConfigurationError: Sizes or options out of range.
        OptionTypeError: A size that is no whole number.

    Example:
        >>> layer = GridLSTM(3, 5, num_layers=2, blocks=[(1, 1), (2, 2)])
        >>> output, (h, c) = layer(torch.ones(4, 6, 2, 3), sizes=[(4, 6), (3, 1)])
        >>> output.shape, h.shape
        (torch.Size([2, 3, 2, 20]), torch.Size([8, 2, 5]))

    Source:
        Graves, Fernandez and Schmidhuber 2007, Multi-dimensional recurrent neural networks.

    Differs from the paper in:
        There are no peepholes. The start of the weights and the bias of 0 are our choice. Between
        two layers there is no feedforward layer.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        directions: int = 4,
        blocks: Block | Sequence[Block] = (1, 1),
        bias: bool = True,
        forget_bias: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        self.forget_bias = forget_bias
        if not math.isfinite(forget_bias) or (forget_bias and not bias):
            got = f"{forget_bias}" if bias else f"{forget_bias} with bias=False"
            raise ConfigurationError("forget_bias", got=got, expected="a number; 0 without a bias")
        super().__init__(
            LSTMStep(),
            input_size,
            hidden_size,
            num_layers,
            directions=directions,
            blocks=blocks,
            bias=bias,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters: W of i, o and g as torch's LSTM does."""
        bound = self.hidden_size**-0.5
        for name, parameter in self.named_parameters():
            forget = slice(self.hidden_size, 3 * self.hidden_size)
            if name.startswith("weight_ih"):
                parameter.uniform_(-bound, bound)
            elif name.startswith("bias"):
                parameter.zero_()
                parameter[:, forget] = self.forget_bias
                continue
            else:
                parameter.normal_(0, _SMALL)
            parameter[:, forget] = 0

    def forward(
        self,
        input: Float[Tensor, "_ _ _ input"],
        sizes: Any = None,
        *,
        mask: Bool[Tensor, "_ _ _"] | None = None,
    ) -> tuple[Float[Tensor, "_ _ _ output"], tuple[Float[Tensor, "scans batch hidden"], ...]]:
        """Return the outputs, and the states where each scan ends.

        Arguments:
            input: (height, width, batch, input), or (batch, height, width, input).
            sizes: (batch, 2), the height and width of each image, from its upper left corner;
                None where all fill the input. Values beyond an image are not read.
            mask: (height, width, batch), or (batch, height, width): True inside each image, which
                says the same as sizes.

        Returns:
            output: (height, width, batch, directions * hidden), 0 beyond an image; the sizes are
                those of `output_sizes`.
            (h, c): (layers * directions, batch, hidden) each, at the last pixel of each scan.

        Raises:
            ShapeError: An input of another shape, or without pixels.
            LengthsError: Sizes or a mask that do not fit the input, or each other.
            DtypeError: A mask that is not Boolean.
        """
        output, ends = self._run(input, sizes, mask)
        h, c = zip(*ends, strict=True)
        return output, (torch.cat(h), torch.cat(c))


@final
class GridRNN(GridLayer):
    """A multidimensional RNN of images.

        h = f(W x + b + W_left h_left + W_above h_above)

    h_left and h_above are the states at the pixels to the left and above, 0 beyond the image. The
    scans are those of `GridLSTM`. W_left and W_above start near I / 2: our choice. With f = relu, a
    change at one corner is then multiplied by binomial(H + W - 2, H - 1) / 2^(H + W - 2) at the
    opposite one, as in `GridLSTM`; tanh makes it smaller.

    Arguments:
        input_size: The width of a pixel.
        hidden_size: The units of each scan.
        num_layers: The number of layers on top of each other.
        nonlinearity: f: "tanh" or "relu".
        directions: The number of scans of each layer, from 1 to 4.
        blocks: The height and width of the blocks of pixels that each layer reads as one pixel; or
            one for each layer.
        bias: If True, there is b.
        batch_first: If True, inputs and outputs are (batch, height, width, ...).
        device, dtype: The device and dtype of the parameters.

    Attributes:
        weight_ih_l0, weight_left_l0, weight_above_l0, bias_l0: W, W_left, W_above and b of each
            scan of layer 0: (directions, hidden, ...).

    Raises:
        ConfigurationError: Sizes or options out of range.
        OptionTypeError: A size that is no whole number.

    Example:
        >>> output, h = GridRNN(3, 5, directions=2)(torch.ones(4, 6, 2, 3))
        >>> output.shape, h.shape
        (torch.Size([4, 6, 2, 10]), torch.Size([2, 2, 5]))

    Source:
        Graves, Fernandez and Schmidhuber 2007, Multi-dimensional recurrent neural networks.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        *,
        directions: int = 4,
        blocks: Block | Sequence[Block] = (1, 1),
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise UnknownNameError("nonlinearity", str(nonlinearity), ("tanh", "relu"))
        self.nonlinearity = nonlinearity
        super().__init__(
            RNNStep(nonlinearity),
            input_size,
            hidden_size,
            num_layers,
            directions=directions,
            blocks=blocks,
            bias=bias,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters: W as torch's RNN does."""
        bound = self.hidden_size**-0.5
        for name, parameter in self.named_parameters():
            if name.startswith("weight_ih"):
                parameter.uniform_(-bound, bound)
            elif name.startswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0, _SMALL)
                parameter.diagonal(dim1=1, dim2=2).add_(0.5)

    def forward(
        self,
        input: Float[Tensor, "_ _ _ input"],
        sizes: Any = None,
        *,
        mask: Bool[Tensor, "_ _ _"] | None = None,
    ) -> tuple[Float[Tensor, "_ _ _ output"], Float[Tensor, "scans batch hidden"]]:
        """Return the outputs, and the states where each scan ends.

        Arguments:
            input: (height, width, batch, input), or (batch, height, width, input).
            sizes: (batch, 2), the height and width of each image, from its upper left corner;
                None where all fill the input. Values beyond an image are not read.
            mask: (height, width, batch), or (batch, height, width): True inside each image, which
                says the same as sizes.

        Returns:
            output: (height, width, batch, directions * hidden), 0 beyond an image.
            h: (layers * directions, batch, hidden), at the last pixel of each scan.

        Raises:
            ShapeError: An input of another shape, or without pixels.
            LengthsError: Sizes or a mask that do not fit the input, or each other.
            DtypeError: A mask that is not Boolean.
        """
        output, ends = self._run(input, sizes, mask)
        return output, torch.cat([h for h, _ in ends])


def _blocks(blocks: object, layers: int) -> tuple[Block, ...]:
    """Return the block of each layer.

    Raises:
        ConfigurationError: another number of blocks than layers, or a side below 1.
        OptionTypeError: something else.
    """
    given: Any = blocks
    expected = "(height, width), or one for each layer, of whole numbers of at least 1"
    try:
        one = all(isinstance(side, int) for side in given)
        found = [(h, w) for h, w in ([given] * layers if one else given)]
    except (TypeError, ValueError):
        raise OptionTypeError("blocks", got=repr(blocks), expected=expected) from None
    for side in (side for block in found for side in block):
        check_size("a side of blocks", side)
    if len(found) != layers:
        raise ConfigurationError(
            "blocks", got=repr(blocks), expected=f"one block for each of {layers} layers"
        )
    return tuple(found)


def _in_blocks(x: Tensor, sizes: Tensor | None, block: Block) -> tuple[Tensor, Tensor | None]:
    """Return images whose pixels are blocks of pixels, and their sizes."""
    height, width, batch, _ = x.shape
    if sizes is not None:
        rows, columns = torch.arange(height)[:, None, None], torch.arange(width)[:, None]
        inside = (rows < sizes[:, 0]) & (columns < sizes[:, 1])
        x = torch.where(inside[..., None].to(x.device), x, 0)
        sizes = _reduced(sizes, block)
    x = F.pad(x, (0, 0, 0, 0, 0, -width % block[1], 0, -height % block[0]))
    x = x.unflatten(1, (-1, block[1])).unflatten(0, (-1, block[0]))
    # (rows, in a block, columns, in a block, batch, features)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(x.shape[0], x.shape[2], batch, -1), sizes


def _reduced(sizes: Tensor, block: Block) -> Tensor:
    return -(-sizes // torch.tensor(block, device=sizes.device))
