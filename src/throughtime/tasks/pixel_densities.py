"""Images and binary vectors whose probability a model gives: batches, and nats an item."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from throughtime.core.scoring import Mean, Metric, Score
from throughtime.tasks.kinds import Likelihood, Pixels
from throughtime.tasks.seeding import generator, shuffled
from throughtime.tasks.task import Split, Task, check_at_least

Levels = UInt8[np.ndarray, "count channels height width"]
"""Images of whole levels."""


class PixelBatch(NamedTuple):
    """Images, or binary vectors as images of one row.

    Attributes:
        x: (batch, channels, height, width) levels.
    """

    x: Int[Tensor, "batch channels height width"]

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self.x)

    def to(self, device: torch.device) -> "PixelBatch":
        """Return the batch on a device.

        Arguments:
            device: The device of the model.
        """
        return PixelBatch(self.x.to(device))


@final
class PixelDensity(Task):
    """Give the probability of an image, or of a binary vector.

        loss = - log p(x) in nats an image    standard error = deviation of the losses / sqrt(n)
        bits per dimension = loss / (D ln 2)    of more than two levels, D values an image

    Arguments:
        name: The name of the data set; it stands beside each number.
        splits: Images of each split.
        levels: The number of levels of a pixel.
        white: The largest grey level, for binarisation anew: each training batch draws its binary
            pixels with probabilities grey / white, and held-out images are drawn once and for all.
            None for the levels as they are.

    Attributes:
        kind: The kind of the images.

    Inputs:
        (batch, channels, height, width) int64 levels.

    Chance:
        independent pixels: their frequencies in the training images, 1 added to each count, on the
        validation images.

    Training:
        each epoch has its own order, a function of seed and epoch.
    """

    answers = Likelihood()

    def __init__(
        self,
        name: str,
        splits: Mapping[Split, Levels],
        *,
        levels: int = 2,
        white: int | None = None,
    ):
        self.name, self.white = name, white
        self._splits = dict(splits)
        if white is not None:
            for split in ("validation", "test"):
                self._splits[split] = _binarized(splits[split], white, generator(0, split))
        _, channels, height, width = splits["training"].shape
        self.kind = self.inputs = Pixels(height, width, channels, levels)
        self.length = channels * height * width
        self.dependency_length = max(1, self.length - 1)
        training = splits["training"] if white is None else splits["training"] / white
        self.chance_loss = _independent(training, self._splits["validation"], levels)
        self.criterion = "none: the best loss is not known"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The loss in nats, its standard error, and bits per dimension of more than two levels."""
        chance = self.chance_loss
        found = (
            Metric("loss", "nats", "lower", chance),
            Metric("standard_error", "nats", "lower"),
        )
        if self.kind.levels == 2:
            return found
        bits = Metric("bits_per_dimension", "bits", "lower", chance / self.length / math.log(2))
        return bits, *found

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[PixelBatch]:
        """Return batches of endless shuffled epochs, or held-out images in order.

        Arguments:
            split, size, seed, start: arguments of `Task.batches`.
        """
        check_at_least("batch_size", size, 1)
        images = self._splits[split]
        if split == "training":
            return (self._training_batch(step, size, seed) for step in itertools.count(start))
        firsts = range(start * size, len(images), size)
        return (_batch(images[first : first + size]) for first in firsts)

    def _training_batch(self, step: int, size: int, seed: int) -> PixelBatch:
        images = self._splits["training"]
        taken = images[shuffled(len(images), step, size, seed)]
        if self.white is not None:
            taken = _binarized(taken, self.white, generator(seed, "training", step))
        return _batch(taken)

    def score(
        self, model: nn.Module, batch: PixelBatch, *, state: Any = None, step: int | None = None
    ) -> Score:
        """Return the mean negative log-likelihood in nats an image.

        Arguments:
            model: A `Density`. In training, its `estimate` of the log-likelihood is taken, if it
                has one.
            batch: Images.
            state: Unused.
            step: The training step; None in evaluation, which also has the part "square", for the
                standard error.
        """
        del state
        log_prob: Any = model.log_prob
        if step is not None:
            log_prob = getattr(model, "estimate", log_prob)
        losses = -log_prob(batch.x)
        count = torch.tensor(len(losses), device=losses.device)
        kept = losses.detach().double()
        parts = {"loss": Mean(kept.sum(), count)}
        if step is None:
            parts["square"] = Mean(kept.square().sum(), count)
        return Score(losses.mean(), parts)

    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return "loss", "standard_error", and "bits_per_dimension" of more than two levels.

        Arguments:
            parts: Merged parts of scores in evaluation.
        """
        loss = parts["loss"].value
        found = {"loss": loss, "standard_error": standard_error(parts["loss"], parts["square"])}
        if self.kind.levels > 2:
            found["bits_per_dimension"] = loss / self.length / math.log(2)
        return found

    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return nothing: the score has all metrics.

        Arguments:
            model, split: unused.
        """
        del model, split
        return {}

    def last_answers(self, batch: PixelBatch) -> PixelBatch:
        """Return the batch: an image has one answer, its probability.

        Arguments:
            batch: Images.
        """
        return batch

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return False: there is no criterion.

        Arguments:
            metrics: Unused.
        """
        del metrics
        return False


def standard_error(values: Mean, squares: Mean) -> float:
    """Return the standard error of a mean of independent items; NaN for fewer than two.

    Arguments:
        values: The sum and the number of the items' values.
        squares: The sum of their squares.

    Example:
        >>> one, three = torch.tensor(1.0), torch.tensor(3)
        >>> round(standard_error(Mean(3 * one, three), Mean(5 * one, three)), 4)
        0.5774
    """
    count = int(values.count)
    if count < 2:
        return math.nan
    variance = max(0.0, squares.value - values.value**2) * count / (count - 1)
    return math.sqrt(variance / count)


def _batch(images: Levels) -> PixelBatch:
    return PixelBatch(torch.from_numpy(images.astype(np.int64)))


def _binarized(images: Levels, white: int, random: np.random.Generator) -> Levels:
    """Return binary pixels that are 1 with probabilities grey / white."""
    return (random.random(images.shape, np.float32) * np.float32(white) < images).astype(np.uint8)


def _independent(training: np.ndarray, held_out: Levels, levels: int) -> float:
    """Return the nats of an image of independent pixels."""
    if levels == 2:
        p = (training.sum(0, dtype=np.float64) + 1) / (len(training) + 2)
        mean = held_out.mean(0, dtype=np.float64)
        return float(-(mean * np.log(p) + (1 - mean) * np.log(1 - p)).sum())
    flat, held = (x.reshape(len(x), -1).T for x in (training, held_out))
    total = 0.0
    for pixel, own in zip(flat, held, strict=True):
        p = (np.bincount(pixel, minlength=levels) + 1) / (len(pixel) + levels)
        total -= float(np.log(p)[own].mean())
    return total
