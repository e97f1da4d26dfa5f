"""Images read one pixel, or a few, at a time: digits and MNIST, in order or permuted."""

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32, Int64

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.image_sets import ImageSet, LabelledImages, load_digits, load_mnist
from throughtime.tasks.kinds import Classes, Vectors
from throughtime.tasks.seeding import permutation, shuffled
from throughtime.tasks.sequences import (
    Outputs,
    Right,
    SequenceBatch,
    SequenceTask,
    Targets,
    likeliest,
)
from throughtime.tasks.task import Split, check_at_least


class PixelSequences(SequenceTask):
    """Tell what an image shows after reading its pixels, row by row from the top left.

    With the pixels q_0 ... q_{N-1} in [0, 1] (permuted: in a fixed random order), and the mean m
    and the deviation d of all pixels of the training images, step t reads

        p_i = (q_i - m) / d                              standardized; else p_i = q_i
        x_t = (p_{t s}, ..., p_{t s + k - 1}),   t = 0, 1, ...

    for k pixels per step and stride s, until all pixels have been read; beyond the end, and only
    there, pixels are zero. s < k overlaps, s > k leaves pixels out.

    An image of another size is resized first by area: each new pixel is the mean of the rectangle
    of the old image that it covers, which also holds for enlarging. This is exact and the same on
    every machine: whole numbers until one division.

    Arguments:
        name: name of the task.
        image_set: the images.
        image_size: side in pixels; None for the images' own.
        pixels_per_step: k.
        stride: s; None for k.
        permutation_seed: seed of the order of pixels; None for the order in the image.
        standardized: If True, pixels have zero mean and unit variance over the training images.
        solved_accuracy: share of right answers from which the task counts as solved.
        criterion: the same in words, with its source.

    Targets:
        (batch,) classes after the last step.

    Chance:
        knowing only how frequent the test set's classes f_c are: max f_c, and - sum_c f_c ln f_c.

    Training:
        each epoch has its own order, a function of seed and epoch; batches run on from one epoch
        into the next, so that every image comes equally often.

    Raises:
        ConfigurationError: an option out of range.
    """

    answers = Classes(10)

    def __init__(
        self,
        name: str,
        image_set: ImageSet,
        *,
        image_size: int | None,
        pixels_per_step: int,
        stride: int | None,
        permutation_seed: int | None,
        standardized: bool,
        solved_accuracy: float,
        criterion: str,
    ):
        side = image_set.side if image_size is None else image_size
        stride = pixels_per_step if stride is None else stride
        _check_options(name, side, pixels_per_step, stride)
        self.name = name
        self.criterion = criterion
        self.solved_accuracy = solved_accuracy
        self.image_set = image_set
        self.inputs = Vectors(pixels_per_step)
        self._overlap = None if side == image_set.side else _overlap(image_set.side, side)
        # With overlaps as weights a pixel is the sum over an area of (old side)^2.
        self._white = image_set.white * (1 if self._overlap is None else image_set.side**2)
        count = side * side
        order = np.arange(count)
        if permutation_seed is not None:
            order = permutation(count, permutation_seed, "pixel order")
        self._reads, self._overhang = _reads(order, pixels_per_step, stride)
        self._beyond = self._reads == count
        self._mean, self._deviation = _statistics(image_set) if standardized else (0.0, 1.0)
        self.length = len(self._reads)
        self.dependency_length = self.length - 1
        labels = image_set.splits["test"].labels
        frequencies = np.unique(labels, return_counts=True)[1] / len(labels)
        self.chance = float(frequencies.max())
        self.chance_loss = float(-(frequencies * np.log(frequencies)).sum())

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[SequenceBatch]:
        """Return batches of endless shuffled epochs, or held-out images in order."""
        check_at_least("batch_size", size, 1)
        if split == "training":
            return (self._training_batch(step, size, seed) for step in itertools.count(start))
        held_out = self.image_set.splits[split]
        count = len(held_out.labels)
        return (
            self._batch(held_out, np.arange(first, min(first + size, count)))
            for first in range(start * size, count, size)
        )

    def _training_batch(self, step: int, batch_size: int, seed: int) -> SequenceBatch:
        training = self.image_set.splits["training"]
        return self._batch(training, shuffled(len(training.labels), step, batch_size, seed))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output."""
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Accuracy of at least `solved_accuracy`."""
        return metrics["accuracy"] >= self.solved_accuracy

    def _batch(self, images: LabelledImages, which: Int64[np.ndarray, " batch"]) -> SequenceBatch:
        levels = images.images[which]
        if self._overlap is not None:
            levels = self._overlap @ levels.astype(np.float32) @ self._overlap.T
        levels = levels.reshape(len(which), -1)
        if self._overhang:
            levels = np.pad(levels, ((0, 0), (0, 1)))
        # Turned while they are bytes, so that reading steps copies whole rows of the batch.
        steps = np.ascontiguousarray(levels.T)[self._reads].transpose(0, 2, 1)
        inputs = np.divide(steps, np.float32(self._white), dtype=np.float32, order="C")
        if self._deviation != 1.0:
            inputs -= np.float32(self._mean)
            inputs /= np.float32(self._deviation)
            inputs.transpose(0, 2, 1)[self._beyond] = 0.0
        return SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(images.labels[which]))


def digits(
    *,
    image_size: int = 8,
    pixels_per_step: int = 1,
    stride: int | None = None,
    standardized: bool = True,
) -> PixelSequences:
    """Handwritten digits, 8 x 8, one pixel at a time; they come with the package.

    Arguments:
        image_size: side in pixels; other than 8: resized by area.
        pixels_per_step: pixels that a step reads.
        stride: pixels from one step's first to the next one's; None: as many as are read.
        standardized: If True, pixels have zero mean and unit variance; else they are in [0, 1].

    Example:
        >>> digits().length, digits(pixels_per_step=8).length
        (64, 8)
    """
    return _digits("digits", image_size, pixels_per_step, stride, None, standardized)


def permuted_digits(
    *,
    image_size: int = 8,
    pixels_per_step: int = 1,
    stride: int | None = None,
    permutation_seed: int = 0,
    standardized: bool = True,
) -> PixelSequences:
    """Handwritten digits, 8 x 8, their pixels in a fixed random order.

    Arguments:
        image_size, pixels_per_step, stride, standardized: options of `digits`.
        permutation_seed: seed of the order, which is the same for all images and runs.
    """
    return _digits(
        "permuted-digits", image_size, pixels_per_step, stride, permutation_seed, standardized
    )


def mnist(
    *,
    image_size: int = 28,
    pixels_per_step: int = 1,
    stride: int | None = None,
    data_dir: str | None = None,
    standardized: bool = True,
) -> PixelSequences:
    """MNIST digits, 28 x 28, one pixel at a time (Le, Jaitly & Hinton 2015).

    Arguments:
        image_size: side in pixels; other than 28: resized by area.
        pixels_per_step: pixels that a step reads.
        stride: pixels from one step's first to the next one's; None: as many as are read.
        data_dir: folder of the four idx files; None: THROUGHTIME_DATA, else they are downloaded.
        standardized: If True, pixels have zero mean and unit variance; else they are in [0, 1].

    Raises:
        DataError: see `load_mnist`.
    """
    criterion = "held-out accuracy of at least 97 %, as the IRNN of Le, Jaitly & Hinton 2015"
    return PixelSequences(
        "mnist",
        load_mnist(data_dir),
        image_size=image_size,
        pixels_per_step=pixels_per_step,
        stride=stride,
        permutation_seed=None,
        standardized=standardized,
        solved_accuracy=0.97,
        criterion=criterion,
    )


def permuted_mnist(
    *,
    image_size: int = 28,
    pixels_per_step: int = 1,
    stride: int | None = None,
    permutation_seed: int = 0,
    data_dir: str | None = None,
    standardized: bool = True,
) -> PixelSequences:
    """MNIST digits, 28 x 28, their pixels in a fixed random order (Le, Jaitly & Hinton 2015).

    Arguments:
        image_size, pixels_per_step, stride, data_dir, standardized: options of `mnist`.
        permutation_seed: seed of the order, which is the same for all images and runs. The papers'
            orders are unknown to us: theirs and ours differ by chance.

    Raises:
        DataError: see `load_mnist`.
    """
    criterion = "held-out accuracy of at least 82 %, as the IRNN of Le, Jaitly & Hinton 2015"
    return PixelSequences(
        "permuted-mnist",
        load_mnist(data_dir),
        image_size=image_size,
        pixels_per_step=pixels_per_step,
        stride=stride,
        permutation_seed=permutation_seed,
        standardized=standardized,
        solved_accuracy=0.82,
        criterion=criterion,
    )


def _digits(
    name: str,
    image_size: int,
    pixels_per_step: int,
    stride: int | None,
    seed: int | None,
    standardized: bool,
) -> PixelSequences:
    return PixelSequences(
        name,
        load_digits(),
        image_size=image_size,
        pixels_per_step=pixels_per_step,
        stride=stride,
        permutation_seed=seed,
        standardized=standardized,
        solved_accuracy=0.95,
        criterion="held-out accuracy of at least 95 % (our choice)",
    )


@lru_cache(maxsize=2)
def _statistics(image_set: ImageSet) -> tuple[float, float]:
    """Return the mean and the deviation of the pixels of the training images, in [0, 1]."""
    pixels = image_set.splits["training"].images / image_set.white
    return float(pixels.mean()), float(pixels.std())


def _check_options(name: str, side: int, pixels_per_step: int, stride: int) -> None:
    check_at_least(f"image_size of task '{name}'", side, 1)
    for option, value in (("pixels_per_step", pixels_per_step), ("stride", stride)):
        if not 1 <= value <= side * side:
            raise ConfigurationError(
                f"{option} of task '{name}'",
                got=value,
                expected=f"a whole number from 1 to {side * side}, the pixels of an image",
            )


def _overlap(old: int, new: int) -> Float32[np.ndarray, "new old"]:
    """Return the part of each old pixel that a new pixel covers along one axis, in 1 / new."""
    i, j = np.arange(new)[:, None], np.arange(old)
    covered = np.minimum((i + 1) * old, (j + 1) * new) - np.maximum(i * old, j * new)
    return covered.clip(min=0).astype(np.float32)


def _reads(
    order: Int64[np.ndarray, " pixel"], pixels_per_step: int, stride: int
) -> tuple[Int64[np.ndarray, "step read"], bool]:
    """Return the pixels of each step, and True if the last step reads beyond the end."""
    count = len(order)
    steps = min(math.ceil(count / stride), 1 + math.ceil((count - pixels_per_step) / stride))
    places = np.arange(steps)[:, None] * stride + np.arange(pixels_per_step)
    beyond = np.full(pixels_per_step, count)
    return np.concatenate((order, beyond))[places], bool((places >= count).any())
