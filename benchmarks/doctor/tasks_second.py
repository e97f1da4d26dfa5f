"""The tasks of the second held-out family: other dependencies than those of the two before."""

import dataclasses
import math

import torch
from torch import Generator

from benchmarks.doctor.tasks import Draw, Examples, Task, enter, integers, steps


def majority(length: int, votes: int) -> Draw:
    """Which of two tokens there are more of among the first few; then other tokens."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = 2 + integers(generator, 4, batch, length)
        inputs[:, :votes] = integers(generator, 2, batch, votes)
        targets = (inputs[:, :votes].sum(1) > votes // 2).long()
        return Examples(inputs, targets, steps(batch, *range(votes)))

    return draw


def varying_majority(length: int, votes: int) -> Draw:
    """A majority within 11 to 17 steps; one sample of each batch is `length` long.

    Padded by token 6.
    """
    whole = majority(length, votes)

    def draw(generator: Generator, batch: int) -> Examples:
        one = whole(generator, batch)
        lengths = 11 + integers(generator, 7, batch)
        lengths[batch // 2] = length
        inputs = one.inputs.masked_fill(torch.arange(length) >= lengths[:, None], 6)
        return dataclasses.replace(one, inputs=inputs, lengths=lengths)

    return draw


def pulses(length: int, noise: float) -> Draw:
    """How many pulses, one to three, there are in the first third; the other channel is noise."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = noise * torch.randn(batch, length, 2, generator=generator)
        targets = integers(generator, 3, batch)
        where = torch.rand(batch, length // 3, generator=generator).argsort(1)
        for k in range(3):
            inputs[torch.arange(batch), where[:, k], 0] += (targets >= k).float()
        return Examples(inputs, targets, steps(batch, *range(length // 3)))

    return draw


def marked_and_last(length: int) -> Draw:
    """The value under an early marker, plus half of the last value: far and near at once."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = torch.zeros(batch, length, 2)
        inputs[..., 0] = 2 * torch.rand(batch, length, generator=generator) - 1
        marked = integers(generator, length // 4, batch)
        rows = torch.arange(batch)
        inputs[rows, marked, 1] = 1.0
        targets = inputs[rows, marked, 0] + inputs[:, -1, 0] / 2
        return Examples(inputs, targets, steps(batch, *range(length // 4)))

    return draw


def query(length: int, classes: int) -> Draw:
    """The first token is asked for wherever a query token comes, three times in the second half."""

    def draw(generator: Generator, batch: int) -> Examples:
        half = length // 2
        inputs = classes + 1 + integers(generator, 3, batch, length)
        inputs[:, 0] = integers(generator, classes, batch)
        asked = torch.zeros(batch, length, dtype=torch.bool)
        places = half + torch.rand(batch, length - half, generator=generator).argsort(1)[:, :3]
        asked[torch.arange(batch)[:, None], places] = True
        inputs = inputs.masked_fill(asked, classes)
        targets = inputs[:, :1].expand(batch, length).masked_fill(~asked, -100)
        return Examples(inputs, targets, steps(batch, 0), dependents=asked)

    return draw


def reverse(length: int, symbols: int) -> Draw:
    """Two symbols, blanks, a marker, and the two symbols in reverse order."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = torch.full((batch, length), symbols)
        inputs[:, :2] = integers(generator, symbols, batch, 2)
        inputs[:, -2] = symbols + 1
        targets = torch.full_like(inputs, -100)
        targets[:, -2:] = inputs[:, :2].flip(1)
        return Examples(inputs, targets, steps(batch, 0, 1), dependents=targets >= 0)

    return draw


def ending(length: int, symbols: int) -> Draw:
    """The larger of the last two tokens, however long the sequence is."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = integers(generator, symbols, batch, length)
        targets = inputs[:, -2:].amax(1)
        return Examples(inputs, targets, steps(batch, *range(length - 6)))

    return draw


def rising(length: int) -> Draw:
    """At each step, whether the value is above the mean of the two before it."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = torch.randn(batch, length, 2, generator=generator)
        x = inputs[..., 0]
        targets = torch.full((batch, length), -100)
        targets[:, 2:] = (x[:, 2:] > (x[:, 1:-1] + x[:, :-2]) / 2).long()
        late = torch.zeros(batch, length, dtype=torch.bool)
        late[:, length // 2 + 8 :] = True
        return Examples(inputs, targets, steps(batch, *range(length // 2)), dependents=late)

    return draw


_OWN = "held-out-2"
_TWO, _FOUR = math.log(2), math.log(4)
enter(Task("majority-35", _OWN, "class", 35, 34, 6, 2, True, _TWO, majority(35, 5)))
enter(Task("majority-32", _OWN, "class", 32, 31, 6, 2, True, _TWO, majority(32, 3)))
_VARYING = varying_majority(64, 5)
enter(Task("varying-64", _OWN, "class", 64, 16, 7, 2, True, _TWO, _VARYING, padded=True))
enter(Task("pulses-36", _OWN, "class", 36, 35, 2, 3, False, math.log(3), pulses(36, 0.1)))
enter(Task("marked-33", _OWN, "value", 33, 32, 2, 1, False, 1 / 3, marked_and_last(33)))
enter(Task("query-40", _OWN, "steps", 40, 39, 8, 4, True, _FOUR, query(40, 4)))
enter(Task("reverse-26", _OWN, "steps", 26, 25, 6, 4, True, _FOUR, reverse(26, 4)))
_LARGER = -sum((2 * k + 1) / 25 * math.log((2 * k + 1) / 25) for k in range(5))
enter(Task("ending-42", _OWN, "class", 42, 1, 5, 5, True, _LARGER, ending(42, 5), long=False))
enter(Task("rising-38", _OWN, "steps", 38, 2, 2, 2, False, _TWO, rising(38), long=False))
