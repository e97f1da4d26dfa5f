"""Both sides: an answer at each step that needs the past and the future."""

import math
from collections.abc import Mapping
from typing import final

import numpy as np
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.kinds import Classes, Vectors
from throughtime.tasks.sequences import (
    GeneratedTask,
    Outputs,
    Right,
    SequenceBatch,
    Targets,
    likeliest,
)
from throughtime.tasks.task import check_at_least


@final
class BothSides(GeneratedTask):
    """Both sides: count the ones among two inputs, some steps before and as many steps after.

        y_t = x_{t-d} + x_{t+d}        x_t independent, 0 or 1 with equal probability

    A network that runs forward alone has read x_{t-d} and not x_{t+d}: its best answer is right in
    one half of the cases, as that of a network that remembers nothing. The task is our choice.

    Arguments:
        length: T, the largest number of steps; that of a sequence is uniform from the smallest one
            with an answer, 2 d + 1, to T.
        distance: d, at least 1.

    Inputs:
        (length, batch, 1), 0 beyond a sequence's end.

    Targets:
        (length, batch) classes 0, 1 and 2; -1 at the first and last d steps of a sequence, and
        beyond its end.

    Chance:
        accuracy 1/2 and 3/2 ln 2 nats, the entropy of the classes. The accuracy is also the highest
        of a network that does not read the future; its lowest loss is ln 2.

    Raises:
        ConfigurationError: An option out of range.

    Example:
        >>> batch = next(BothSides(length=5, distance=2).batches("training", 1))
        >>> batch.inputs[:, 0, 0].tolist(), batch.targets[:, 0].tolist()
        ([0.0, 0.0, 1.0, 0.0, 0.0], [-1, -1, 0, -1, -1])
    """

    name = "both-sides"
    criterion = "accuracy of at least 99 % (our choice)"

    def __init__(self, *, length: int = 20, distance: int = 3):
        check_at_least("distance of task 'both-sides'", distance, 1)
        if length < 2 * distance + 1:
            raise ConfigurationError(
                "length of task 'both-sides'",
                got=length,
                expected=f"at least {2 * distance + 1}, for a distance of {distance}",
            )
        self.inputs, self.answers = Vectors(1), Classes(3, per_step=True)
        self.length, self.dependency_length = length, distance
        self.chance, self.chance_loss = 0.5, 1.5 * math.log(2)

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Return sequences of independent bits.

        Arguments:
            random: Source of random numbers.
            batch_size: Number of sequences.
        """
        d = self.dependency_length
        bits = random.integers(0, 2, (self.length, batch_size))
        lengths = random.integers(2 * d + 1, self.length + 1, batch_size)
        steps = np.arange(self.length)[:, None]
        bits[steps >= lengths] = 0
        targets = np.full_like(bits, -1)
        targets[d:-d] = bits[: -2 * d] + bits[2 * d :]
        targets[steps >= lengths - d] = -1
        return SequenceBatch(
            torch.from_numpy(bits.astype(np.float32))[..., None],
            torch.from_numpy(targets),
            torch.from_numpy(lengths),
        )

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output.

        Arguments:
            outputs: Outputs of a model.
            targets: Classes.
        """
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Accuracy of at least 0.99.

        Arguments:
            metrics: Held-out metrics.
        """
        return metrics["accuracy"] >= 0.99
