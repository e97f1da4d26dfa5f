"""Deep networks of images: plain, residual and pre-activation blocks, to 1,000 layers and more."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, cast, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.kinds import Classes, Images

BlockKind: TypeAlias = Literal["plain", "original", "preactivation"]
"""A block without a shortcut, with an activation behind the sum, or with those before the maps."""

MapKind: TypeAlias = Literal["linear", "convolution"]
"""The kind of a layer's map: a matrix, or a convolution of 3 x 3 places."""


@final
class ResidualBlock(nn.Module):
    """One or two layers, with a shortcut around them or without.

        plain           y = f(N W_2 f(N W_1 x))
        original        y = f(P x + N W_2 f(N W_1 x))
        preactivation   y = P x + W_2 f(N W_1 f(N x))

    f is max(0, .), N batch normalisation, W_1 and W_2 maps. P is the identity where y is as x;
    where the width or the stride changes, P is a linear map of each place (of each stride-th one).
    A block of one layer has W_1 alone. Without batch normalisation, N adds a bias.

    Arguments:
        inputs: The width of x.
        outputs: The width of y.
        kind: The kind of the block.
        maps: The kind of the maps.
        stride: The stride of the first map; above 1 for convolutions alone.
        layers: The number of layers, 1 or 2.
        batch_norm: If True, N is batch normalisation.

    Raises:
        ConfigurationError: A number below 1, more than two layers, or a stride of a linear map.

    Example:
        >>> block = ResidualBlock(4, 8, "preactivation", "convolution", stride=2)
        >>> block(torch.ones(3, 4, 6, 6)).shape
        torch.Size([3, 8, 3, 3])

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, and
    "Identity mappings in deep residual networks", ECCV 2016.

    P has no normalisation and reads x itself, our choice.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kind: BlockKind,
        maps: MapKind = "linear",
        *,
        stride: int = 1,
        layers: int = 2,
        batch_norm: bool = True,
    ):
        super().__init__()
        if min(inputs, outputs, stride, layers) < 1 or layers > 2:
            raise ConfigurationError(
                "a residual block",
                got=f"widths {inputs} and {outputs}, stride {stride}, {layers} layers",
                expected="numbers of at least 1, and at most 2 layers",
            )
        if stride > 1 and maps == "linear":
            raise ConfigurationError(
                "stride of a residual block", got=stride, expected="1 for a linear map"
            )
        self.kind: BlockKind = kind
        ends = [(inputs, outputs, stride), (outputs, outputs, 1)][:layers]
        self.maps = nn.ModuleList(_map(maps, *end, bias=not batch_norm) for end in ends)
        normed = [end[kind != "preactivation"] for end in ends]
        self.norms = nn.ModuleList(
            _norm(maps, width) if batch_norm else nn.Identity() for width in normed
        )
        changes = inputs != outputs or stride > 1
        self.shortcut: nn.Module = nn.Identity()
        if kind != "plain" and changes and maps == "linear":
            self.shortcut = nn.Linear(inputs, outputs, bias=False)
        elif kind != "plain" and changes:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "batch _ *places"]) -> Float[Tensor, "batch _ *places2"]:
        """Return y.

        Arguments:
            x: Vectors, or images of (batch, channels, height, width).
        """
        branch = x
        if self.kind == "preactivation":
            for norm, weight in zip(self.norms, self.maps, strict=True):
                branch = weight(norm(branch).relu())
            return self.shortcut(x) + branch
        for number, (norm, weight) in enumerate(zip(self.norms, self.maps, strict=True)):
            branch = norm(weight(branch))
            if number + 1 < len(self.maps):
                branch = branch.relu()
        return (branch if self.kind == "plain" else self.shortcut(x) + branch).relu()


@final
class ResidualNetwork(nn.Module):
    """A map of an image, blocks, and a linear readout.

        h_0 = W x                       flattened pixels, or a convolution
        h_l = block_l(h_{l-1})          l = 1, ..., number of blocks
        y   = V mean of h_L + b         the mean over places; pre-activation: of f(N h_L)

    The layers are shared out to as many stages as there are widths. A stage of convolutions after
    the first halves height and width. Weights are normal with variance 2 / fan-in (He et al. 2015),
    biases 0, our choice for the first map too.

    Arguments:
        images: The kind of the images.
        answers: The kind of the answers, one an image.
        depth: The number of layers within blocks, at least 1; two a block, the last of an odd
            number alone in its block. The map of the image and the readout are two more.
        kind: The kind of the blocks.
        maps: The kind of the maps.
        widths: The width of each stage.
        batch_norm: If True, blocks normalise over the batch.
        init: Weights of variance 2 / fan-in ("he"), or those of torch.nn ("torch").
        recompute: If True, a training step keeps the inputs of about sqrt(blocks) segments alone,
            and computes the rest again in the backward pass: gradients and running statistics are
            the same.

    Raises:
        ConfigurationError: A depth or a width below 1, or fewer blocks than stages.

    Example:
        >>> model = ResidualNetwork(Images(8, 8), Classes(10), depth=20, widths=(16,))
        >>> len(model.blocks), model(torch.ones(2, 1, 8, 8)).shape
        (10, torch.Size([2, 10]))

    Source: He et al. (2016a, 2016b), as of `ResidualBlock`; recomputation by segments is that of
    Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost", 2016.
    """

    def __init__(
        self,
        images: Images,
        answers: Classes,
        depth: int,
        *,
        kind: BlockKind = "preactivation",
        maps: MapKind = "linear",
        widths: Sequence[int] = (64,),
        batch_norm: bool = True,
        init: Literal["he", "torch"] = "he",
        recompute: bool = False,
    ):
        super().__init__()
        if depth < 1:
            raise ConfigurationError("depth", got=depth, expected="at least 1 layer")
        blocks = math.ceil(depth / 2)
        if not 1 <= len(widths) <= blocks or min(widths) < 1:
            raise ConfigurationError(
                "widths of a residual network",
                got="/".join(map(str, widths)) or "none",
                expected=f"1 to {blocks} whole numbers of at least 1, for depth {depth}",
            )
        self.maps: MapKind = maps
        self.batch_norm, self.recompute = batch_norm, recompute
        channels = images.channels
        pixels = images.height * images.width * channels
        self.first = _map(maps, channels if maps == "convolution" else pixels, widths[0], 1)
        self.blocks = nn.ModuleList()
        stage, before = 0, widths[0]
        for number in range(blocks):
            new = number * len(widths) // blocks != stage
            stage += new
            block = ResidualBlock(
                before,
                widths[stage],
                kind,
                maps,
                stride=2 if new and maps == "convolution" else 1,
                layers=min(2, depth - 2 * number),
                batch_norm=batch_norm,
            )
            self.blocks.append(block)
            before = widths[stage]
        last = kind == "preactivation" and batch_norm
        self.norm = _norm(maps, before) if last else nn.Identity()
        self.activated = kind == "preactivation"
        self.readout = nn.Linear(before, answers.count)
        if init == "he":
            self.apply(_draw)

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        sizes: Int[Tensor, "batch 2"] | None = None,
    ) -> Float[Tensor, "batch output"]:
        """Return the answers.

        Arguments:
            images: Images.
            sizes: None: all images have the size of the batch.

        Raises:
            ConfigurationError: Images of several sizes; or, in training, one image alone for linear
                maps with batch normalisation.
        """
        if sizes is not None:
            raise ConfigurationError(
                "images of a residual network",
                got="a size for each image",
                expected="images of one size",
                fix="Leave cropped=true away, or choose the model 'grid'.",
            )
        if self.training and self.batch_norm and len(images) * (self.maps == "linear") == 1:
            raise ConfigurationError(
                "batch of a network with batch normalisation", got="1 image", expected="at least 2"
            )
        h = self.first(images if self.maps == "convolution" else images.flatten(1))
        if self.recompute and torch.is_grad_enabled():
            h = recomputed(list(self.blocks), h)
        else:
            for block in self.blocks:
                h = block(h)
        if self.activated:
            h = self.norm(h).relu()
        return self.readout(h.flatten(2).mean(2) if self.maps == "convolution" else h)


def recomputed(
    blocks: Sequence[nn.Module], x: Float[Tensor, "..."], segments: int | None = None
) -> Float[Tensor, "..."]:
    """Return what blocks in a row make of x; the backward pass computes them again.

    The inputs of the segments are kept, and those tensors that the backward pass of one segment
    needs, one segment at a time. Buffers, such as the running statistics of batch normalisation,
    change once, as without recomputation; random numbers, as those of dropout, are the same.

    Arguments:
        blocks: Modules, each called with the result of the one before.
        x: The input of the first one.
        segments: The number of segments; None for about sqrt(blocks).

    Raises:
        ConfigurationError: A number of segments below 1 or above that of the blocks.

    Example:
        >>> blocks = [nn.BatchNorm1d(3) for _ in range(9)]
        >>> recomputed(blocks, torch.randn(4, 3)).sum().backward()
        >>> int(blocks[0].num_batches_tracked)
        1
    """
    count = round(math.sqrt(len(blocks))) if segments is None else segments
    if not 1 <= count <= max(1, len(blocks)):
        raise ConfigurationError(
            "segments", got=count, expected=f"from 1 to the number of blocks, {len(blocks)}"
        )
    for k in range(count):
        part = blocks[k * len(blocks) // count : (k + 1) * len(blocks) // count]
        x = cast(
            "Tensor",
            checkpoint(
                lambda h, part=part: nn.Sequential(*part)(h),
                x,
                use_reentrant=False,
                context_fn=lambda part=part: (contextlib.nullcontext(), _buffers_kept(part)),
            ),
        )
    return x


@contextlib.contextmanager
def _buffers_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Within, modules change copies of their buffers, such as running statistics."""
    owned = [
        (each, name, buffer)
        for module in modules
        for each in module.modules()
        for name, buffer in each.named_buffers(recurse=False)
    ]
    for each, name, buffer in owned:
        setattr(each, name, buffer.clone())
    try:
        yield
    finally:
        for each, name, buffer in owned:
            setattr(each, name, buffer)


def _map(maps: MapKind, inputs: int, outputs: int, stride: int, bias: bool = True) -> nn.Module:
    if maps == "linear":
        return nn.Linear(inputs, outputs, bias=bias)
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)


def _norm(maps: MapKind, width: int) -> nn.Module:
    return nn.BatchNorm1d(width) if maps == "linear" else nn.BatchNorm2d(width)


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
