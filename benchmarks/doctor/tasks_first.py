"""The tasks of the first held-out family: other dependencies than those of development."""

import dataclasses
import math

import torch
from torch import Generator

from benchmarks.doctor.tasks import Draw, Examples, Task, enter, integers, steps


def order(length: int) -> Draw:
    """Which of two symbols came early and which later on, among distractors (temporal order)."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = 2 + integers(generator, 4, batch, length)
        first = integers(generator, length // 6, batch)
        second = length // 4 + integers(generator, length // 6, batch)
        symbols = integers(generator, 2, batch, 2)
        rows = torch.arange(batch)
        inputs[rows, first], inputs[rows, second] = symbols[:, 0], symbols[:, 1]
        far = torch.stack([first, second], 1)
        return Examples(inputs, 2 * symbols[:, 0] + symbols[:, 1], far)

    return draw


def varying_order(length: int) -> Draw:
    """The order of two symbols within 12 to 18 steps; one sample of each batch is `length` long.

    Padded by token 6.
    """
    whole = order(24)

    def draw(generator: Generator, batch: int) -> Examples:
        early = whole(generator, batch)
        more = 2 + integers(generator, 4, batch, length - 24)
        inputs = torch.cat([early.inputs, more], 1)
        lengths = 12 + integers(generator, 7, batch)
        lengths[-1] = length
        inputs = inputs.masked_fill(torch.arange(length) >= lengths[:, None], 6)
        return dataclasses.replace(early, inputs=inputs, lengths=lengths)

    return draw


def difference(length: int) -> Draw:
    """The value under the first marker less half of that under the second, both long ago."""

    def draw(generator: Generator, batch: int) -> Examples:
        values = 2 * torch.rand(batch, length, generator=generator) - 1
        rows = torch.arange(batch)
        first = integers(generator, length // 5, batch)
        second = length // 4 + integers(generator, length // 5, batch)
        inputs = torch.zeros(batch, length, 3)
        inputs[..., 0] = values
        inputs[rows, first, 1] = inputs[rows, second, 2] = 1.0
        targets = values[rows, first] - values[rows, second] / 2
        far = torch.stack([first, second], 1)
        # The markers stay where they are; only what is under them goes to another sample.
        return Examples(inputs, targets, far)

    return draw


def recall(length: int, symbols: int, spacing: int) -> Draw:
    """At each step the last marked token; tokens from `symbols` on are the marked ones."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = integers(generator, symbols, batch, length)
        marked = range(0, length, spacing)
        for step in marked:
            inputs[:, step] += symbols
        targets = torch.stack([inputs[:, t - t % spacing] - symbols for t in range(length)], dim=1)
        dependents = torch.zeros(batch, length, dtype=torch.bool)
        dependents[:, 1:spacing] = True
        return Examples(inputs, targets, steps(batch, 0), dependents=dependents)

    return draw


def copying(length: int, symbols: int) -> Draw:
    """Two symbols, blanks, a marker, and the two symbols again (copying)."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = torch.full((batch, length), symbols)
        inputs[:, :2] = integers(generator, symbols, batch, 2)
        inputs[:, -2] = symbols + 1
        targets = torch.full_like(inputs, -100)
        targets[:, -2:] = inputs[:, :2]
        return Examples(inputs, targets, steps(batch, 0, 1), dependents=targets >= 0)

    return draw


def late_mean(length: int) -> Draw:
    """A weighted mean of the last four values."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = torch.randn(batch, length, 2, generator=generator)
        weights = torch.tensor([0.4, 0.6, 0.8, 1.0])
        targets = (inputs[:, -4:, 0] * weights).sum(1) - inputs[:, -1, 1]
        return Examples(inputs, targets, steps(batch, *range(length - 8)))

    return draw


def tags(length: int, symbols: int) -> Draw:
    """At each step, whether the token is larger than the one two steps ago, equal, or smaller."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = integers(generator, symbols, batch, length)
        targets = torch.full_like(inputs, -100)
        targets[:, 2:] = 1 + (inputs[:, 2:] - inputs[:, :-2]).sign()
        late = torch.zeros(batch, length, dtype=torch.bool)
        late[:, length // 2 + 8 :] = True
        return Examples(inputs, targets, steps(batch, *range(length // 2)), dependents=late)

    return draw


_OWN = "held-out-1"
_RECALL = math.log(5) * (1 - 4 / 48)  # the marked steps themselves need no memory
enter(Task("order-36", _OWN, "class", 36, 35, 6, 4, True, math.log(4), order(36)))
enter(Task("order-32", _OWN, "class", 32, 31, 6, 4, True, math.log(4), order(32)))
_VARYING = varying_order(70)
enter(Task("varying-70", _OWN, "class", 70, 17, 7, 4, True, math.log(4), _VARYING, padded=True))
enter(Task("difference-30", _OWN, "value", 30, 29, 3, 1, False, 5 / 12, difference(30)))
enter(Task("recall-48", _OWN, "steps", 48, 11, 10, 5, True, _RECALL, recall(48, 5, 12)))
enter(Task("copying-28", _OWN, "steps", 28, 26, 6, 4, True, math.log(4), copying(28, 4)))
_MEAN = late_mean(44)
enter(Task("late-44", _OWN, "value", 44, 3, 2, 1, False, 3.16, _MEAN, long=False))
# Signs of differences of two of five: 5 equal, 10 smaller, 10 larger of 25.
_TAGS = -(0.2 * math.log(0.2) + 0.8 * math.log(0.4))
enter(Task("tags-40", _OWN, "steps", 40, 2, 5, 3, True, _TAGS, tags(40, 5), long=False))
