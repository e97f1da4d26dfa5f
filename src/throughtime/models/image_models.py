"""Models that read a whole image: by scans of a grid, or pixel after pixel as a sequence."""

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.layers import GridLayer
from throughtime.models.readout import SequenceModel
from throughtime.tasks.kinds import Classes


@final
class GridModel(nn.Module):
    """Scans over images with a linear readout of the places where they end.

        y = V (h of each scan of the top layer, at its last pixel) + b

    Arguments:
        grid: The layer, reading (height, width, batch, channels).
        answers: The kind of the answers, one an image.

    Example:
        >>> from throughtime import GridLSTM
        >>> model = GridModel(GridLSTM(1, 5), Classes(10))
        >>> model(torch.ones(2, 1, 12, 12)).shape
        torch.Size([2, 10])
    """

    def __init__(self, grid: GridLayer, answers: Classes):
        super().__init__()
        self.grid = grid
        self.readout = nn.Linear(grid.output_size, answers.width)

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        sizes: Int[Tensor, "batch 2"] | None = None,
    ) -> Float[Tensor, "batch output"]:
        """Return the answers.

        Arguments:
            images: Images.
            sizes: The height and width of each image; None where all fill the batch.
        """
        _, state = self.grid(images.permute(2, 3, 0, 1), sizes)
        h: Any = state[0] if isinstance(state, tuple) else state
        return self.readout(h[-self.grid.directions :].transpose(0, 1).flatten(1))


@final
class RasterModel(nn.Module):
    """A sequence model that reads an image pixel by pixel, row by row from the upper left corner.

    Arguments:
        sequence: The model of (time, batch, channels) with one answer a sequence.

    Example:
        >>> from throughtime import LSTM
        >>> model = RasterModel(SequenceModel(LSTM(1, 5), Classes(10)))
        >>> model(torch.ones(2, 1, 12, 12), torch.tensor([[12, 12], [3, 5]])).shape
        torch.Size([2, 10])
    """

    def __init__(self, sequence: SequenceModel):
        super().__init__()
        self.sequence = sequence

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        sizes: Int[Tensor, "batch 2"] | None = None,
    ) -> Float[Tensor, "batch output"]:
        """Return the answers.

        Arguments:
            images: Images.
            sizes: The height and width of each image; None where all fill the batch.
        """
        pixels = images.permute(2, 3, 0, 1)
        if sizes is None:
            return self.sequence(pixels.flatten(0, 1))
        lengths = sizes.prod(1)
        steps = torch.arange(int(lengths.max()))[:, None]
        steps = torch.where(steps < lengths, steps, 0)  # what lies beyond is not read
        rows, columns = (steps // sizes[:, 1]), steps % sizes[:, 1]
        return self.sequence(pixels[rows, columns, torch.arange(len(images))], lengths)
