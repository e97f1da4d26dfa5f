"""The multiplication problem: multiply the two values that were marked."""

from collections.abc import Mapping
from math import log

import numpy as np
import torch

from throughtime.tasks.adding import (
    check_room_for_marks,
    draw_marked_pairs,
    probability_first_is_marked,
)
from throughtime.tasks.generated import GeneratedTask
from throughtime.tasks.kinds import Values, Vectors
from throughtime.tasks.sequences import Outputs, Right, SequenceBatch, Targets, within


class Multiplication(GeneratedTask):
    """Multiplication: the product of two marked values in [0, 1] (Hochreiter & Schmidhuber 1997).

        y = X_1 X_2,   X_1, X_2 ~ U[0, 1] the marked values

    `draw_marked_pairs` places the marks. Unlike a sum, a product is nothing that a memory
    cell does by itself.

    Arguments:
        length: T, at least 11; a sequence has between T and T + T/10 steps, uniformly.

    Targets:
        (batch, 1), in [0, 1], after the last step; right when the error is below 0.04.

    Chance:
        let p be the probability that the first pair is marked, so that one value is 1 and y is
        uniform on [0, 1]; else y has the density -ln y. Then E y = (1-p)/4 + p/2 and
        E y^2 = (1-p)/9 + p/3, and the mean has the loss E y^2 - (E y)^2. The density falls with y,
        so the best window of width 0.08 is [0, 0.08]: accuracy (1-p) 0.08 (1 - ln 0.08) + 0.08 p.

    Differs from the paper in:
        the criterion, fewer than 13 of the last 2,000 training sequences wrong, is applied to the
        share of the 1,024 validation sequences. See also `draw_marked_pairs`.

    Raises:
        ConfigurationError: the sequences are too short for their marks.

    Example:
        >>> round(Multiplication(length=100).chance, 3)
        0.258

    Source:
        Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997,
        section 5.5.
    """

    name = "multiplication"
    inputs = Vectors(2)
    answers = Values(1)
    criterion = (
        "fewer than 13 in 2,000 held-out errors of 0.04 or more "
        "(Hochreiter & Schmidhuber 1997, n_seq = 13)"
    )

    def __init__(self, *, length: int = 100):
        check_room_for_marks(self.name, length)
        self.shortest = length
        self.length = length + length // 10
        self.dependency_length = self.length - 1
        p = probability_first_is_marked(length)
        self.chance = (1 - p) * 0.08 * (1 - log(0.08)) + p * 0.08
        self.chance_loss = (1 - p) / 9 + p / 3 - ((1 - p) / 4 + p / 2) ** 2

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences of marked pairs and their products."""
        pairs = draw_marked_pairs(random, batch_size, self.shortest, low=0, neutral=1)
        targets = pairs.marked[0] * pairs.marked[1]
        return SequenceBatch(
            torch.from_numpy(pairs.inputs),
            torch.from_numpy(targets[:, None]),
            torch.from_numpy(pairs.lengths),
        )

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True where the error is below 0.04."""
        return within(0.04, outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Fewer than 13 in 2,000 wrong."""
        return metrics["accuracy"] > 1 - 13 / 2_000
