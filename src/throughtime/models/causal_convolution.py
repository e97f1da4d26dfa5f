"""Convolutions that read pixels before their own, and of their own pixel the colours before."""

import math
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError


@final
class CausalConvolution(nn.Module):
    """A convolution over pixels before their own in raster order: rows from above, then columns.

        y[r, c] = b + sum over (i, j) of W^(i, j) x[r + i, c + j]
            (i, j): i = -above ... -1 with |j| <= beside;  i = 0 with j = -beside ... -1;  (0, 0)

    Pixels beyond the image are 0. There are weights for these pixels alone, and none for later
    ones. The features of a map are divided among the colours in order. A feature of colour k reads
    all features of the pixels before, and of its own pixel those of colours before k (mask A), or
    up to k (mask B, `own`). Maps are (height, width, batch, features).

    Arguments:
        inputs: The features that are read.
        outputs: The features of y.
        above: The number of rows above that are read.
        beside: The number of columns that are read on each side.
        colours: The number of colours of a pixel.
        own: If True, mask B; else mask A.
        blocks: The number of blocks of outputs, each with features of all colours: the gates of an
            LSTM.

    Raises:
        ConfigurationError: Fewer features than colours, or no pixel to read.

    Example:
        >>> first = CausalConvolution(1, 8, above=3, beside=3, own=False)
        >>> first(torch.zeros(5, 6, 2, 1)).shape, first.weight.shape
        (torch.Size([5, 6, 2, 8]), torch.Size([8, 24]))

    Source:
        van den Oord et al. 2016, Pixel recurrent neural networks.

    Differs from the paper in:
        The paper multiplies weights of later pixels by 0; here they do not exist.
    """

    mask: Bool[Tensor, "outputs columns"] | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        above: int = 0,
        beside: int = 0,
        colours: int = 1,
        own: bool = True,
        blocks: int = 1,
    ):
        super().__init__()
        if min(inputs, outputs // blocks) < colours:
            raise ConfigurationError(
                "features of a map",
                got=f"{min(inputs, outputs // blocks)}",
                expected=f"at least {colours}, one for each colour",
            )
        self.above, self.beside = above, beside
        self.taps = [(i, j) for i in range(-above, 0) for j in range(-beside, beside + 1)]
        self.taps += [(0, j) for j in range(-beside, 0)]
        mask = torch.ones(outputs, len(self.taps) * inputs, dtype=torch.bool)
        if own or colours > 1:
            reader = colour_of(outputs // blocks, colours).repeat(blocks)[:, None]
            read = colour_of(inputs, colours)[None]
            self.taps.append((0, 0))
            mask = torch.cat([mask, read <= reader if own else read < reader], 1)
        if not self.taps:
            raise ConfigurationError(
                "a convolution", got="no pixel to read", expected="one or more"
            )
        self.register_buffer("mask", None if bool(mask.all()) else mask, persistent=False)
        bound = 1 / math.sqrt(max(1, int(mask.sum(1).max())))  # as torch's, of what is read
        self.weight = nn.Parameter(torch.empty(mask.shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def masked(self) -> Float[Tensor, "outputs columns"]:
        """Return the weight, (outputs, pixels * inputs), with 0 where nothing may be read."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(
        self, x: Float[Tensor, "height width batch inputs"]
    ) -> Float[Tensor, "height width batch outputs"]:
        """Return y for a whole map."""
        height, width = x.shape[:2]
        if self.taps == [(0, 0)]:
            return self.alone(x)
        padded = F.pad(x, (0, 0, 0, 0, self.beside, self.beside, self.above, 0))
        read = [
            padded[self.above + i : self.above + i + height, self.beside + j :][:, :width]
            for i, j in self.taps
        ]
        return F.linear(torch.cat(read, -1), self.masked(), self.bias)

    def alone(self, x: Float[Tensor, "*pixels inputs"]) -> Float[Tensor, "*pixels outputs"]:
        """Return y of a convolution that reads its own pixel alone.

        Arguments:
            x: Features of any pixels.
        """
        return F.linear(x, self.masked(), self.bias)

    def at(
        self, x: Float[Tensor, "height width batch inputs"], row: int, column: int
    ) -> Float[Tensor, "batch outputs"]:
        """Return y at one pixel. Later pixels of the map are not read.

        Arguments:
            x: The map.
            row, column: The place of the pixel.
        """
        width = x.shape[1]
        nothing = x.new_zeros(x.shape[2:])
        read = [
            x[row + i, column + j] if row + i >= 0 and 0 <= column + j < width else nothing
            for i, j in self.taps
        ]
        return F.linear(torch.cat(read, -1), self.masked(), self.bias)


def colour_of(features: int, colours: int) -> Int[Tensor, " features"]:
    """Return the colour of each feature: the features are divided in order, as evenly as can be.

    Arguments:
        features: The number of features.
        colours: The number of colours.

    Example:
        >>> colour_of(6, 3).tolist()
        [0, 0, 1, 1, 2, 2]
    """
    return torch.arange(features) * colours // features
