"""A distribution of images as a network over pixels in raster order; exact sampling."""

import abc
from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.sampling import Sampling
from throughtime.models.causal_convolution import CausalConvolution
from throughtime.tasks.kinds import Pixels


class CausalLayer(nn.Module, abc.ABC):
    """A layer from a map of features to another, which reads no later pixel.

    Features at a pixel depend on the pixels before it; `image` is the map of the pixels themselves.
    Maps are (height, width, batch, features).

    Attributes:
        outputs: The features of the layer's map.
    """

    outputs: int

    @abc.abstractmethod
    def forward(
        self,
        x: Float[Tensor, "height width batch inputs"],
        image: Float[Tensor, "height width batch colours"],
    ) -> Float[Tensor, "height width batch outputs"]:
        """Return the layer's map of a whole image."""

    @abc.abstractmethod
    def memory(self, x: Float[Tensor, "height width batch inputs"]) -> tuple[Tensor, ...]:
        """Return maps for `at` to keep its values in, none of them computed yet."""

    @abc.abstractmethod
    def at(
        self,
        x: Float[Tensor, "height width batch inputs"],
        image: Float[Tensor, "height width batch colours"],
        memory: tuple[Tensor, ...],
        row: int,
        column: int,
    ) -> Float[Tensor, "batch outputs"]:
        """Return the layer's features at one pixel, after those of all pixels before it.

        A call may be repeated once more colours of the pixel are there.

        Arguments:
            x: The layer's input, up to this pixel.
            image: The pixels, up to this one.
            memory: Values of earlier pixels, to which those of this one are added.
            row, column: The place of the pixel.
        """


class RasterDensity(nn.Module, abc.ABC):
    """A distribution of images: a product over pixels in raster order, and over colours in order.

        log p(x) = sum over pixels i and colours k of
                   log p(x_{i,k} | x_1 ... x_{i-1}, x_{i,1} ... x_{i,k-1})

    The network: a 7x7 convolution with mask A; layers, each with a residual connection
    x + W layer(x); ReLU, a 1x1 convolution, ReLU, a 1x1 convolution to the logits of each colour.
    All but the first have mask B. Levels are scaled to 0 ... 1. A colour with two levels has one
    logit.

    Arguments:
        kind: The size of the images, and their colours and levels.
        width: The number of features of the maps that the residual connections join.
        layers: The layers.

    Attributes:
        kind: The kind of the images.

    Raises:
        ConfigurationError: Fewer features than colours, or one level.
    """

    def __init__(self, kind: Pixels, width: int, layers: Sequence[CausalLayer]):
        super().__init__()
        if kind.levels < 2:
            raise ConfigurationError("levels", got=kind.levels, expected="at least 2")
        self.kind = kind
        self._outputs = 1 if kind.levels == 2 else kind.levels
        k = kind.channels
        self.first = CausalConvolution(k, width, above=3, beside=3, colours=k, own=False)
        self.layers = nn.ModuleList(layers)
        self.joints = nn.ModuleList(
            CausalConvolution(layer.outputs, width, colours=k) for layer in layers
        )
        self.hidden = CausalConvolution(width, width, colours=k)
        self.output = CausalConvolution(width, k * self._outputs, colours=k)

    @final
    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width levels"]:
        """Return the logits of all levels, from levels that are scaled to 0 ... 1.

        Arguments:
            image: Levels / (number of levels - 1).
        """
        return self._levels(self._network(image.permute(2, 3, 0, 1))).permute(2, 3, 0, 1, 4)

    @final
    def logits(
        self, x: Num[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width levels"]:
        """Return the logits of all levels of each colour, given the pixels and colours before.

        Arguments:
            x: Levels, whole numbers.

        Raises:
            ShapeError: Images of another size.
            ConfigurationError: A level out of range.
        """
        return self(self._scaled(self._checked("x", x, 0)))

    @final
    def log_prob(
        self, x: Num[Tensor, "batch *item"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, " batch"]:
        """Return the natural logarithm of the probability of each image.

        Arguments:
            x: Levels, whole numbers, (batch, channels, height, width).
            lengths: Unused: images have no axis of time.

        Raises:
            ShapeError: Images of another size.
            ConfigurationError: A level out of range.
        """
        del lengths
        x = self._checked("x", x, 0).permute(2, 3, 0, 1)
        z = self._network(self._scaled(x))
        if self._outputs == 1:
            each = -F.binary_cross_entropy_with_logits(z, x.to(z.dtype), reduction="none")
        else:
            flat = z.reshape(-1, self._outputs)
            each = -F.cross_entropy(flat, x.long().flatten(), reduction="none").view(x.shape)
        return each.sum((0, 1, 3))

    @final
    def sample(
        self,
        count: int,
        *,
        known: Int[Tensor, "*item"] | None = None,
        random: torch.Generator | None = None,
    ) -> Int[Tensor, "count channels height width"]:
        """Return images, pixel by pixel in raster order.

        Without `known` they come from the distribution exactly. Known pixels are read where the
        order comes to them, and the unknown ones are drawn given all pixels before them, known or
        drawn. So where the known pixels come first, as in an upper half, the rest comes from its
        distribution given them, exactly. Where an unknown pixel precedes a known one, it is drawn
        without regard to it: the images come from the product of the conditional distributions of
        the unknown pixels, which is another distribution than that given the known ones.

        Each layer keeps its values of earlier pixels. So an image costs the arithmetic of one
        pass over it for each colour, in as many small steps as there are pixels and colours. The
        first images are the same for a larger count.

        Arguments:
            count: The number of images.
            known: Levels, and -1 where one is unknown: (channels, height, width), or as many
                images as the count.
            random: Source of the random numbers, on the CPU; None for torch's own.

        Raises:
            ShapeError: Known images of another size or number.
            ConfigurationError: A negative count, or a level out of range.
        """
        return self.sample_and_log_prob(count, known=known, random=random)[0]

    @final
    @torch.no_grad()
    def sample_and_log_prob(
        self,
        count: int,
        *,
        known: Int[Tensor, "*item"] | None = None,
        random: torch.Generator | None = None,
    ) -> tuple[Int[Tensor, "count channels height width"], Float[Tensor, " count"]]:
        """Return images, and the log-probability with which their unknown pixels were drawn.

        Without `known`, it is that of the image.

        Arguments:
            count: The number of images.
            known: Levels, and -1 where one is unknown.
            random: Source of the random numbers, on the CPU; None for torch's own.

        Raises:
            ShapeError: Known images of another size or number.
            ConfigurationError: A negative count, or a level out of range.
        """
        if count < 0:
            raise ConfigurationError("count", got=count, expected="0 or more")
        weight, kind = self.output.weight, self.kind
        given = self._known(known, count).to(weight.device)
        shape = (count, kind.height, kind.width, kind.channels)
        uniform = torch.rand(shape, generator=random, dtype=torch.float64).to(weight.device)
        x, log_prob, strategy = given.clamp(min=0), weight.new_zeros(count), Sampling()
        steps = _Steps(self, weight.new_zeros(kind.height, kind.width, count, kind.channels))
        for r in range(kind.height):
            for c in range(kind.width):
                for k in range(kind.channels):
                    z = self._levels(steps.at(r, c))[:, k]
                    unknown, level = given[:, k, r, c] < 0, x[:, k, r, c]
                    level = torch.where(unknown, strategy.draw(z, uniform[:, r, c, k]), level)
                    own = z.log_softmax(-1).gather(1, level[:, None])[:, 0]
                    log_prob += torch.where(unknown, own, 0)
                    x[:, k, r, c], steps.image[r, c, :, k] = level, self._scaled(level)
        return x, log_prob

    def _network(self, image: Tensor) -> Tensor:
        """Return the output map, (height, width, batch, colours * outputs)."""
        x = self.first(image)
        for layer, joint in zip(self.layers, self.joints, strict=True):
            x = x + joint(layer(x, image))
        return self.output(self.hidden(x.relu()).relu())

    def _levels(self, z: Tensor) -> Tensor:
        """Return the logits of all levels, (..., colours, levels); the first of two has 0."""
        z = z.unflatten(-1, (self.kind.channels, self._outputs))
        return z if self._outputs > 1 else torch.cat([torch.zeros_like(z), z], -1)

    def _scaled(self, x: Tensor) -> Tensor:
        return x.to(self.output.weight.dtype) / (self.kind.levels - 1)

    def _checked(self, name: str, x: Tensor, least: int) -> Tensor:
        kind = self.kind
        shape = (kind.channels, kind.height, kind.width)
        if x.dim() != 4 or tuple(x.shape[1:]) != shape:
            raise ShapeError(
                name,
                got=f"shape {tuple(x.shape)}",
                expected=f"(batch, {', '.join(map(str, shape))}): batch, channels, height, width",
            )
        levels = x.long()
        if x.numel() and (bool((levels != x).any()) or not _within(levels, least, kind.levels)):
            unknown = ", or -1 for an unknown one" if least < 0 else ""
            raise ConfigurationError(
                name,
                got=f"values from {x.min().item():g} to {x.max().item():g}",
                expected=f"whole numbers from 0 to {kind.levels - 1}{unknown}",
            )
        return levels

    def _known(self, known: Tensor | None, count: int) -> Tensor:
        kind = self.kind
        shape = (count, kind.channels, kind.height, kind.width)
        if known is None:
            return torch.full(shape, -1)
        given = self._checked("known", known[None] if known.dim() == 3 else known, -1)
        if len(given) not in (1, count):
            raise ShapeError("known", got=f"{len(given)} images", expected=f"1 or {count}")
        return given.expand(shape)


@final
class _Steps:
    """The network one pixel at a time: the maps of all layers, filled up to a pixel."""

    def __init__(self, model: Any, image: Tensor):
        self.model, self.image = model, image
        width = model.first.bias.shape[0]
        self.maps = [image.new_zeros(*image.shape[:3], width) for _ in model.layers]
        self.memories = [layer.memory(x) for layer, x in zip(model.layers, self.maps, strict=True)]

    def at(self, row: int, column: int) -> Tensor:
        """Return the output map at a pixel, (batch, colours * outputs)."""
        model = self.model
        x = model.first.at(self.image, row, column)
        for i, (layer, joint) in enumerate(zip(model.layers, model.joints, strict=True)):
            self.maps[i][row, column] = x
            found = layer.at(self.maps[i], self.image, self.memories[i], row, column)
            x = x + joint.alone(found)
        return model.output.alone(model.hidden.alone(x.relu()).relu())


def _within(x: Tensor, least: int, levels: int) -> bool:
    low, high = x.aminmax()
    return int(low) >= least and int(high) < levels
