"""PixelRNN and PixelCNN: distributions of images."""

from typing import Literal, final

from jaxtyping import Float
from torch import Tensor

from throughtime.core.cell import check_size
from throughtime.core.errors import UnknownNameError
from throughtime.models.causal_convolution import CausalConvolution
from throughtime.models.diagonal_lstm import DiagonalBiLSTM, Engine
from throughtime.models.raster_density import CausalLayer, RasterDensity
from throughtime.models.row_lstm import RowLSTM
from throughtime.tasks.kinds import Pixels


@final
class PixelRNN(RasterDensity):
    """Recurrent layers over the pixels of an image, in raster order.

    The network is that of `RasterDensity`, with maps of 2 * hidden features.

    Arguments:
        kind: The size of the images, and their colours and levels.
        hidden: The number of units of a pixel in each layer.
        layers: The number of layers.
        layer: "diagonal" for `DiagonalBiLSTM`, which reads all earlier pixels, or "row" for
            `RowLSTM`, which reads a triangle of them.
        engine: The engine of the diagonal layers: "auto", "native" or "eager".

    Raises:
        ConfigurationError: A size below 1, fewer units than colours, or one level.
        UnknownNameError: No layer or engine of that name.

    Example:
        >>> import torch
        >>> model = PixelRNN(Pixels(5, 4), 3)
        >>> image = torch.zeros(2, 1, 5, 4, dtype=torch.int64)
        >>> model.log_prob(image).shape, model.sample(3).shape
        (torch.Size([2]), torch.Size([3, 1, 5, 4]))

    Source:
        van den Oord et al. 2016, Pixel recurrent neural networks.

    Differs from the paper in:
        The paper was not at hand. Our choices: the width of the two 1x1 convolutions before the
        logits (2 * hidden), the scale of the levels, the first weights, and the pixels that the
        right direction of `DiagonalBiLSTM` reads.
    """

    def __init__(
        self,
        kind: Pixels,
        hidden: int = 32,
        layers: int = 1,
        *,
        layer: Literal["diagonal", "row"] = "diagonal",
        engine: Engine = "auto",
    ):
        check_size("hidden", hidden)
        check_size("layers", layers)
        if layer not in ("diagonal", "row"):
            raise UnknownNameError("layer", layer, ("diagonal", "row"))
        colours = kind.channels
        made: list[CausalLayer] = [
            RowLSTM(2 * hidden, hidden, colours=colours)
            if layer == "row"
            else DiagonalBiLSTM(2 * hidden, hidden, colours=colours, engine=engine)
            for _ in range(layers)
        ]
        super().__init__(kind, 2 * hidden, made)


@final
class PixelCNN(RasterDensity):
    """Convolutional layers over the pixels of an image: a baseline that reads a part of them.

    The network is that of `RasterDensity`, with maps of 2 * hidden features. Each layer is

        y = relu(K_3x3 * relu(K_1x1 * relu(x)))        both with mask B

    Arguments:
        kind: The size of the images, and their colours and levels.
        hidden: The number of features within each layer.
        layers: The number of layers.

    Raises:
        ConfigurationError: A size below 1, fewer features than colours, or one level.

    Example:
        >>> import torch
        >>> model = PixelCNN(Pixels(5, 4, 3, levels=256), 6, 2)
        >>> model.logits(torch.zeros(2, 3, 5, 4, dtype=torch.int64)).shape
        torch.Size([2, 3, 5, 4, 256])

    Source:
        van den Oord et al. 2016, Pixel recurrent neural networks.

    Differs from the paper in:
        As `PixelRNN`.
    """

    def __init__(self, kind: Pixels, hidden: int = 32, layers: int = 7):
        check_size("hidden", hidden)
        check_size("layers", layers)
        made = [_Convolutions(2 * hidden, hidden, kind.channels) for _ in range(layers)]
        super().__init__(kind, 2 * hidden, made)


@final
class _Convolutions(CausalLayer):
    def __init__(self, inputs: int, hidden: int, colours: int):
        super().__init__()
        self.outputs = hidden
        self.down = CausalConvolution(inputs, hidden, colours=colours)
        self.across = CausalConvolution(hidden, hidden, above=1, beside=1, colours=colours)

    def forward(
        self,
        x: Float[Tensor, "height width batch inputs"],
        image: Float[Tensor, "height width batch colours"],
    ) -> Float[Tensor, "height width batch outputs"]:
        del image
        return self.across(self.down(x.relu()).relu()).relu()

    def memory(self, x: Float[Tensor, "height width batch inputs"]) -> tuple[Tensor, ...]:
        return (x.new_zeros(*x.shape[:3], self.outputs),)

    def at(
        self,
        x: Float[Tensor, "height width batch inputs"],
        image: Float[Tensor, "height width batch colours"],
        memory: tuple[Tensor, ...],
        row: int,
        column: int,
    ) -> Float[Tensor, "batch outputs"]:
        del image
        (narrow,) = memory
        narrow[row, column] = self.down.alone(x[row, column].relu()).relu()
        return self.across.at(narrow, row, column).relu()
