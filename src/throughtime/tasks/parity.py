"""Parity: whether the number of ones is odd (Bengio, Simard & Frasconi 1994)."""

from collections.abc import Mapping
from math import log

import numpy as np
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.generated import GeneratedTask
from throughtime.tasks.kinds import Classes, Vectors
from throughtime.tasks.options import check_at_least
from throughtime.tasks.sequences import Outputs, Right, SequenceBatch, Targets, likeliest


class Parity(GeneratedTask):
    """Parity: whether the number of +1 among inputs of +1 and -1 is odd (Bengio 1994).

        b_t = +1 or -1, each with probability 1/2;  x_t = b_t + u_t,  u_t ~ U[-noise, noise]
        class = (number of t with b_t = +1) mod 2

    Every input matters: to leave one out is to be at chance.

    Arguments:
        length: T; a sequence has between T/2 (rounded up) and T steps, uniformly. The paper's are
            25 to 50.
        noise: half-width of the uniform noise, in [0, 1); the paper's is 0.2.

    Targets:
        (batch,) classes: 1 odd, 0 even, after the last step.

    Chance:
        1/2; ln 2.

    Differs from the paper in:
        two classes and cross-entropy instead of one output with target 1 or 0.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> Parity(length=50).dependency_length
        49

    Source:
        Bengio, Simard & Frasconi 1994; as described by Hochreiter & Schmidhuber, "Bridging long
        time lags by weight guessing and 'Long Short-Term Memory'", 1996.
    """

    name = "parity"
    inputs = Vectors(1)
    answers = Classes(2)
    chance = 0.5
    chance_loss = log(2)
    criterion = (
        "no held-out sequence wrong (Bengio et al. 1994: reached by simulated annealing alone)"
    )

    def __init__(self, *, length: int = 50, noise: float = 0.2):
        check_at_least("length of task 'parity'", length, 2)
        if not 0 <= noise < 1:
            raise ConfigurationError(
                "noise of task 'parity'",
                got=noise,
                expected="a number in [0, 1)",
                fix="More would hide the sign of an input.",
            )
        self.length = length
        self.noise = noise
        self.dependency_length = length - 1

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences of independent fair signs."""
        lengths = random.integers((self.length + 1) // 2, self.length + 1, batch_size)
        shape = (self.length, batch_size)
        ones = random.integers(0, 2, shape)
        present = np.arange(self.length)[:, None] < lengths
        noise = self.noise * (2 * random.random(shape) - 1)
        inputs = np.where(present, 2 * ones - 1 + noise, 0).astype(np.float32)
        return SequenceBatch(
            torch.from_numpy(inputs[:, :, None]),
            torch.from_numpy((ones * present).sum(axis=0) % 2),
            torch.from_numpy(lengths),
        )

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output."""
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """No error."""
        return metrics["accuracy"] == 1
