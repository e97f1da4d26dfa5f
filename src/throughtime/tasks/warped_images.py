"""Whole images and their classes: digits and MNIST, warped anew at each step, of several sizes."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64, UInt8
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.core.scoring import Mean, Metric, Score
from throughtime.tasks.image_sets import ImageSet, load_digits, load_mnist
from throughtime.tasks.kinds import Classes, Images
from throughtime.tasks.seeding import generator, shuffled
from throughtime.tasks.sequences import likeliest
from throughtime.tasks.task import Split, Task, check_at_least

_NODES = 4  # rows and columns of displacements over an image


class ImageBatch(NamedTuple):
    """Images and their classes.

    Attributes:
        images: (batch, channels, height, width) float32; zeros beyond the size of an image.
        targets: (batch,) int64 classes.
        sizes: (batch, 2) int64 heights and widths on the CPU; None where all fill the batch.
    """

    images: Tensor
    targets: Tensor
    sizes: Int[Tensor, "batch 2"] | None = None

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self.images)

    def to(self, device: torch.device) -> "ImageBatch":
        """Return the batch with images and targets on a device; sizes stay on the CPU.

        Arguments:
            device: The device of the model.
        """
        return self._replace(images=self.images.to(device), targets=self.targets.to(device))


@final
class WarpedImages(Task):
    """Tell what a warped image shows.

    With pixels q of an image in [0, 1], 0 beyond it, as a function of places p = (row, column)
    measured in pixels from the middle, a new image has at each place p

        q(p + M p + t + d(p))

        M   2 x 2 numbers, uniform in [-w, w]: turns, shears and scales
        t   a shift, uniform in [-w, w] times a quarter of the old side
        d   displacements at 4 x 4 places over the new image, uniform in [-w, w] times an eighth of
            the old side, and between these interpolated linearly

    for a strength w. Between pixels, q is interpolated linearly. Then the mean of the training
    images is subtracted, and the difference is divided by their deviation. The warp is our choice.

    Training images are warped anew at each step, held-out images once and for all.

    Arguments:
        name: The name of the task.
        image_set: The images.
        image_size: The side of the new images in pixels.
        warp: w, from 0 to 1; 0 for no warp.
        cropped: If True, an image is cut to the smallest rectangle with all pixels of at least a
            quarter of white: images of a batch have different sizes.

    Targets:
        (batch,) classes.

    Chance:
        the test set's most frequent class, and the entropy of its classes.

    Raises:
        ConfigurationError: An option out of range.

    Example:
        >>> batch = next(warped_digits(cropped=True).batches("training", 2))
        >>> batch.images.shape[:2], batch.sizes.shape
        (torch.Size([2, 1]), torch.Size([2, 2]))
    """

    answers: Classes = Classes(10)  # pyright: ignore[reportIncompatibleVariableOverride]
    criterion = "held-out accuracy of at least 95 % (our choice)"

    def __init__(
        self, name: str, image_set: ImageSet, *, image_size: int, warp: float, cropped: bool
    ):
        check_at_least(f"image_size of task '{name}'", image_size, 2)
        if not 0 <= warp <= 1:
            raise ConfigurationError(f"warp of task '{name}'", got=warp, expected="from 0 to 1")
        self.name, self.image_size, self.warp, self.cropped = name, image_size, warp, cropped
        self.image_set = image_set
        self.inputs = Images(image_size, image_size)
        self.length = image_size * image_size
        self.dependency_length = self.length - 1
        plain = image_set.splits["training"].images / image_set.white
        self._mean, self._deviation = float(plain.mean()), float(plain.std())
        labels = image_set.splits["test"].labels
        frequencies = np.unique(labels, return_counts=True)[1] / len(labels)
        self.chance = float(frequencies.max())
        self.chance_loss = float(-(frequencies * np.log(frequencies)).sum())

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy and loss."""
        return (
            Metric("accuracy", "fraction", "higher", self.chance),
            Metric("loss", "nats", "lower", self.chance_loss, tables=False),
        )

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[ImageBatch]:
        """Return batches of endless shuffled epochs, or held-out images in order.

        Arguments:
            split, size, seed, start: arguments of `Task.batches`.
        """
        check_at_least("batch_size", size, 1)
        count = len(self.image_set.splits[split].labels)
        if split == "training":
            return (
                self._training_batch(step, count, size, seed) for step in itertools.count(start)
            )
        drawn = _draw(generator(0, split), count)
        parts = (
            np.arange(first, min(first + size, count)) for first in range(start * size, count, size)
        )
        return (self._batch(split, which, drawn[which]) for which in parts)

    def score(
        self, model: nn.Module, batch: ImageBatch, *, state: object = None, step: int | None = None
    ) -> Score:
        """Return the mean cross-entropy in nats.

        Arguments:
            model: Called as model(images, sizes).
            batch: Images.
            state: Unused.
            step: The training step; None in evaluation, which also has the part "accuracy".
        """
        del state
        outputs = model(batch.images, batch.sizes)
        loss = self.answers.loss(outputs, batch.targets)
        count = torch.tensor(batch.size, device=loss.device)
        parts = {"loss": Mean(loss.detach().double() * count, count)}
        if step is None:
            right = likeliest(outputs.detach(), batch.targets)
            parts["accuracy"] = Mean(right.sum(), count)
        return Score(loss, parts)

    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return "loss" and "accuracy".

        Arguments:
            parts: Merged parts of scores in evaluation.
        """
        return {"loss": parts["loss"].value, "accuracy": parts["accuracy"].value}

    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return nothing: the score has all metrics.

        Arguments:
            model, split: unused.
        """
        del model, split
        return {}

    def last_answers(self, batch: ImageBatch) -> ImageBatch:
        """Return the batch in float64: an image has one answer.

        Arguments:
            batch: Images.
        """
        return batch._replace(images=batch.images.double())

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Accuracy of at least 0.95.

        Arguments:
            metrics: Held-out metrics.
        """
        return metrics["accuracy"] >= 0.95

    def _training_batch(self, step: int, count: int, size: int, seed: int) -> ImageBatch:
        draws = _draw(generator(seed, "training", step), size)
        return self._batch("training", shuffled(count, step, size, seed), draws)

    def _batch(
        self,
        split: Split,
        which: Int64[np.ndarray, " batch"],
        draws: Float64[np.ndarray, "batch _"],
    ) -> ImageBatch:
        of_split = self.image_set.splits[split]
        pixels = of_split.images[which]
        if self.warp or self.image_size != self.image_set.side:
            pixels = _warped(pixels, draws * self.warp, self.image_size)
        pixels = pixels / self.image_set.white
        sizes = None
        if self.cropped:
            pixels, sizes = _cropped(pixels)
        normal = (pixels - self._mean) / self._deviation
        if sizes is not None:
            rows, columns = (np.arange(count)[:, None] for count in normal.shape[1:])
            inside = (rows < sizes[:, 0]).T[:, :, None] & (columns < sizes[:, 1]).T[:, None]
            normal = np.where(inside, normal, 0)
        return ImageBatch(
            torch.from_numpy(normal.astype(np.float32))[:, None],
            torch.from_numpy(of_split.labels[which]),
            None if sizes is None else torch.from_numpy(sizes),
        )


def warped_digits(
    *, image_size: int = 12, warp: float = 0.3, cropped: bool = False
) -> WarpedImages:
    """Handwritten digits, 8 x 8, turned, sheared, scaled, shifted and bent.

    Arguments:
        image_size: The side of the new images in pixels.
        warp: The strength of the warp, from 0 to 1.
        cropped: If True, images are cut to the digit, and have different sizes.
    """
    return WarpedImages(
        "warped-digits", load_digits(), image_size=image_size, warp=warp, cropped=cropped
    )


def digit_images() -> WarpedImages:
    """Handwritten digits, 8 x 8, as whole images."""
    return WarpedImages("digit-images", load_digits(), image_size=8, warp=0.0, cropped=False)


def mnist_images(*, data_dir: str | None = None) -> WarpedImages:
    """MNIST digits, 28 x 28, as whole images.

    Arguments:
        data_dir: The folder of the four idx files; None: THROUGHTIME_DATA, else a download.

    Raises:
        DataError: See `load_mnist`.
    """
    images = load_mnist(data_dir)
    return WarpedImages("mnist-images", images, image_size=28, warp=0.0, cropped=False)


def warped_mnist(
    *,
    image_size: int = 28,
    warp: float = 0.3,
    cropped: bool = False,
    data_dir: str | None = None,
) -> WarpedImages:
    """MNIST digits, 28 x 28, turned, sheared, scaled, shifted and bent.

    Arguments:
        image_size, warp, cropped: options of `warped_digits`.
        data_dir: The folder of the four idx files; None: THROUGHTIME_DATA, else a download.

    Raises:
        DataError: See `load_mnist`.
    """
    images = load_mnist(data_dir)
    return WarpedImages("warped-mnist", images, image_size=image_size, warp=warp, cropped=cropped)


def _draw(random: np.random.Generator, count: int) -> Float64[np.ndarray, "count _"]:
    """Return M, t and d of a warp of strength 1, for a side of 1, one row an image."""
    return random.uniform(-1, 1, (count, 4 + 2 + 2 * _NODES**2))


def _warped(
    images: UInt8[np.ndarray, "batch side side"], draws: Float64[np.ndarray, "batch _"], size: int
) -> Float64[np.ndarray, "batch size size"]:
    """Return images at other places; products and sums alone, the same on every machine."""
    side = images.shape[1]
    linear, shift, nodes = np.split(draws, [4, 6], 1)
    linear, shift = linear.reshape(-1, 2, 2), shift * side / 4
    at = np.arange(size) - (size - 1) / 2  # from the middle
    knots = np.arange(size) / (size - 1) * (_NODES - 1)
    hats = np.maximum(0, 1 - np.abs(knots[:, None] - np.arange(_NODES)))
    grid = nodes.reshape(-1, 2, _NODES, _NODES) * side / 8
    bent = np.stack([_between(each, hats) for each in (grid[:, 0], grid[:, 1])], 1)
    places = [
        (at[:, None] if axis == 0 else at[None])
        + linear[:, axis, 0, None, None] * at[:, None]
        + linear[:, axis, 1, None, None] * at
        + shift[:, axis, None, None]
        + bent[:, axis]
        + (side - 1) / 2
        for axis in (0, 1)
    ]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1))).astype(np.float64)
    rows, columns = (np.clip(place + 1, 0, side + 1 - 1e-9) for place in places)
    r, c = rows.astype(np.int64), columns.astype(np.int64)
    down, right = rows - r, columns - c
    image = np.arange(len(images))[:, None, None]
    upper = padded[image, r, c] * (1 - right) + padded[image, r, c + 1] * right
    lower = padded[image, r + 1, c] * (1 - right) + padded[image, r + 1, c + 1] * right
    return upper * (1 - down) + lower * down


def _between(
    nodes: Float64[np.ndarray, "batch n n"], hats: Float64[np.ndarray, "size n"]
) -> Float64[np.ndarray, "batch size size"]:
    """Return values at nodes, interpolated linearly along both axes."""
    along = (nodes[:, None] * hats[:, :, None]).sum(2)  # (batch, size, n)
    return (along[:, :, None] * hats).sum(3)


def _cropped(
    pixels: Float64[np.ndarray, "batch size size"],
) -> tuple[Float64[np.ndarray, "batch height width"], Int64[np.ndarray, "batch 2"]]:
    """Return images cut to what is not dark, each in the upper left corner, and their sizes."""
    spans = []
    for axis in (2, 1):
        bright: Any = (pixels >= 0.25).any(axis=axis)
        bright[~bright.any(1)] = True  # a blank image stays whole
        first = bright.argmax(1)
        spans.append((first, bright.shape[1] - bright[:, ::-1].argmax(1) - first))
    (top, heights), (left, widths) = spans
    height, width, limit = heights.max(), widths.max(), pixels.shape[1] - 1
    rows = np.minimum(top[:, None] + np.arange(height), limit)
    columns = np.minimum(left[:, None] + np.arange(width), limit)
    cut = pixels[np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None]]
    return cut, np.stack([heights, widths], 1).astype(np.int64)
