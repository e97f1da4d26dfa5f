"""The tasks of the third held-out family: real inputs, for faults of scale."""

import math

import torch
from torch import Generator

from benchmarks.doctor.tasks import Draw, Examples, Task, enter, integers, steps


def level(length: int, classes: int) -> Draw:
    """At which of some levels a noisy channel was during the first quarter; then it is noise."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = 0.3 * torch.randn(batch, length, 2, generator=generator)
        targets = integers(generator, classes, batch)
        shown = length // 4
        inputs[:, :shown, 0] += 2.0 * targets[:, None] / (classes - 1) - 1.0
        return Examples(inputs, targets, steps(batch, *range(shown)))

    return draw


def early_mean(length: int) -> Draw:
    """The mean of the first four values."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = 2 * torch.rand(batch, length, 2, generator=generator) - 1
        return Examples(inputs, inputs[:, :4, 0].mean(1), steps(batch, *range(4)))

    return draw


def held_sign(length: int) -> Draw:
    """At each step the sign of the last pulse; there is one at the start and one halfway."""

    def draw(generator: Generator, batch: int) -> Examples:
        half = length // 2
        signs = 2.0 * integers(generator, 2, batch, 2) - 1
        inputs = 0.1 * torch.randn(batch, length, 2, generator=generator)
        inputs[:, 0, 0] += signs[:, 0]
        inputs[:, half, 0] += signs[:, 1]
        first, second = (signs > 0).long().unbind(1)
        targets = torch.cat(
            [first[:, None].expand(-1, half), second[:, None].expand(-1, length - half)], 1
        )
        dependents = torch.zeros(batch, length, dtype=torch.bool)
        dependents[:, 1:half] = True
        return Examples(inputs, targets, steps(batch, 0), dependents=dependents)

    return draw


_OWN = "held-out-3"
enter(Task("level-34", _OWN, "class", 34, 33, 2, 3, False, math.log(3), level(34, 3)))
enter(Task("early-30", _OWN, "value", 30, 29, 2, 1, False, 1 / 12, early_mean(30)))
enter(Task("held-36", _OWN, "steps", 36, 17, 2, 2, False, math.log(2), held_sign(36)))
