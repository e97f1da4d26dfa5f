"""A wave from nothing: produce a given signal by heart."""

import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.tasks.kinds import Values, Vectors
from throughtime.tasks.seeding import generator
from throughtime.tasks.sequences import Outputs, Right, SequenceBatch, SequenceTask, Targets, within
from throughtime.tasks.task import Split, check_at_least

_TOLERANCE = 0.1  # of the largest value


class Wave(SequenceTask):
    """A wave from nothing: produce a fixed signal without any input (Koutnik et al. 2014).

        target_t = s_t,  s a sum of sinusoids scaled to [-1, 1]

    The network has to keep the time itself, from its initial state on. There is one sequence, which
    is trained on and tested on.

    Arguments:
        length: samples, 320 in the paper.
        waveform: seed of the signal.
        sinusoids: number of sinusoids; their periods are drawn between 4 and `length` samples,
            uniformly in their logarithm.

    Inputs:
        (length, batch, 1) zeros.

    Targets:
        (length, batch, 1).

    Chance:
        the mean as every answer: a loss of the signal's variance, so that the loss over chance is
        the normalised mean squared error; accuracy counts samples within 0.1.

    Differs from the paper in:
        its signals are 7 ms of music that we do not have; this one is synthetic (our choice).

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> task = Wave()
        >>> next(task.batches("training", 1)).targets.shape
        torch.Size([320, 1, 1])

    Source:
        J. Koutnik et al., "A clockwork RNN", ICML 2014.
    """

    name = "wave"
    criterion = "loss below a hundredth of the signal's variance (our choice)"
    inputs = Vectors(1)
    answers = Values(1, per_step=True)

    def __init__(self, *, length: int = 320, waveform: int = 0, sinusoids: int = 12):
        check_at_least("length of task 'wave'", length, 8)
        check_at_least("sinusoids of task 'wave'", sinusoids, 1)
        self.length, self.dependency_length = length, length - 1
        self.signal = _signal(generator(waveform, "training", 0), length, sinusoids)
        mean = self.signal.mean()
        self.chance_loss = float((self.signal - mean).square().mean())
        near = float(((self.signal - mean).abs() < _TOLERANCE).double().mean())
        self.chance = min(max(near, 1 / length), 1 - 1 / length)

    def _batch(self, batch_size: int) -> SequenceBatch:
        targets = self.signal[:, None, None].expand(-1, batch_size, 1).contiguous()
        return SequenceBatch(torch.zeros(self.length, batch_size, 1), targets)

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[SequenceBatch]:
        """Return batches of the signal, `size` times in training and once in evaluation."""
        del seed
        check_at_least("batch_size", size, 1)
        if split == "training":
            return itertools.repeat(self._batch(size))
        return itertools.islice((self._batch(1),), start, None)

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the samples within 0.1."""
        return within(_TOLERANCE, outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Loss below a hundredth of the variance."""
        return metrics["loss"] < 0.01 * self.chance_loss


def _signal(random: np.random.Generator, length: int, sinusoids: int) -> Float[Tensor, " time"]:
    steps = np.arange(length)
    periods = np.exp(random.uniform(math.log(4), math.log(length), sinusoids))
    phases = random.uniform(0, 2 * math.pi, sinusoids)
    total = np.sin(2 * math.pi * steps[:, None] / periods + phases).sum(1)
    total -= total.mean()
    return torch.from_numpy(total / np.abs(total).max()).float()
