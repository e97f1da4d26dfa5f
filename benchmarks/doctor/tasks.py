"""Small tasks whose far inputs are known: the development family, and what a task is."""

import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Generator, Tensor

TASKS: dict[str, "Task"] = {}
Draw: TypeAlias = "Callable[[Generator, int], Examples]"


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Some sequences, batch first, whatever the order in which a user's loader gives them.

    Attributes:
        inputs: (batch, time, channels) floats, or (batch, time) tokens.
        targets: classes (batch,) or (batch, time), or values (batch,).
        far: (batch, n) the steps whose input is asked for long after.
        lengths: (batch,) where sequences are padded on the right by zeros; else None.
        dependents: (batch, time) true where the answer of a step is due to a `far` input; None
            where there is one answer a sequence.
    """

    inputs: Tensor
    targets: Tensor
    far: Tensor
    lengths: Tensor | None = None
    dependents: Tensor | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is to be learnt.

    Attributes:
        family: that it belongs to.
        answer: "class", "value", or "steps" (a class at each step).
        length: T, of the longest sequence.
        lag: steps between the far inputs and the answers that need them; the largest usual one.
        inputs: channels of a float input, or the number of tokens.
        classes: of the answer; 1 for a value.
        tokens: whether inputs are tokens.
        baseline: loss of the best predictor that has not seen the far inputs.
        draw: examples from a generator and a batch size.
        long: whether the answer needs inputs of long ago; False for NO_LONG_DEPENDENCY.
        padded: whether lengths differ.
    """

    name: str
    family: str
    answer: str
    length: int
    lag: int
    inputs: int
    classes: int
    tokens: bool
    baseline: float
    draw: Draw
    long: bool = True
    padded: bool = False


def enter(task: Task) -> Task:
    """Enter a task under its name."""
    TASKS[task.name] = task
    return task


def without_far_inputs(examples: Examples) -> Examples:
    """The same examples, whose far inputs are those of other samples; only answers due to them."""
    inputs = examples.inputs.clone()
    rows = torch.arange(inputs.shape[0])[:, None]
    inputs[rows, examples.far] = inputs[rows, examples.far].roll(1, 0)
    targets = examples.targets
    if examples.dependents is not None:
        targets = targets.masked_fill(~examples.dependents, -100)
    return dataclasses.replace(examples, inputs=inputs, targets=targets)


def integers(generator: Generator, high: int, *shape: int) -> Tensor:
    """Whole numbers from 0 to high - 1."""
    return torch.randint(high, shape, generator=generator)


def steps(batch: int, *positions: int) -> Tensor:
    """The same steps in each sample."""
    return torch.tensor(positions).expand(batch, len(positions))


def latch(length: int, classes: int, noise: float) -> Draw:
    """The class is shown in the first two steps; then noise."""

    def draw(generator: Generator, batch: int) -> Examples:
        targets = integers(generator, classes, batch)
        inputs = noise * torch.randn(batch, length, classes, generator=generator)
        inputs[:, :2] += torch.eye(classes)[targets][:, None]
        return Examples(inputs, targets, steps(batch, 0, 1))

    return draw


def first_token(length: int, classes: int, others: int) -> Draw:
    """The class is the first token, of its own alphabet; then other tokens."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = classes + integers(generator, others, batch, length)
        inputs[:, 0] = integers(generator, classes, batch)
        return Examples(inputs, inputs[:, 0].clone(), steps(batch, 0))

    return draw


def adding(length: int) -> Draw:
    """The sum of two marked values in [-1, 1], one in each half."""

    def draw(generator: Generator, batch: int) -> Examples:
        values = 2 * torch.rand(batch, length, generator=generator) - 1
        half = length // 2
        first = integers(generator, half // 2, batch)
        second = half + integers(generator, length - half, batch)
        marks = torch.zeros(batch, length)
        rows = torch.arange(batch)
        marks[rows, first] = marks[rows, second] = 1.0
        targets = values[rows, first] + values[rows, second]
        return Examples(torch.stack([values, marks], -1), targets, first[:, None])

    return draw


def echo(length: int, delay: int, symbols: int) -> Draw:
    """At each step, the token of `delay` steps ago; -100 before there is one."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = integers(generator, symbols, batch, length)
        targets = torch.full_like(inputs, -100)
        targets[:, delay:] = inputs[:, :-delay]
        shown = range(length // 4, length // 4 + 4)
        dependents = torch.zeros(batch, length, dtype=torch.bool)
        dependents[:, [step + delay for step in shown]] = True
        return Examples(inputs, targets, steps(batch, *shown), dependents=dependents)

    return draw


def announce(length: int, classes: int, noise: float) -> Draw:
    """The class of the first step is asked for at each of the last ten."""
    latched = latch(length, classes, noise)

    def draw(generator: Generator, batch: int) -> Examples:
        one = latched(generator, batch)
        asked = torch.zeros(batch, length, dtype=torch.bool)
        asked[:, -10:] = True
        targets = one.targets[:, None].expand(batch, length).masked_fill(~asked, -100)
        return Examples(one.inputs, targets, one.far, dependents=asked)

    return draw


def padded_latch(length: int, classes: int, noise: float) -> Draw:
    """A latch of 8 to 14 steps; one of each batch is `length` long, so all the others are padded.

    Read where each ends, it is easy; read at the last step of the tensor, it is far away.
    """
    latched = latch(length, classes, noise)

    def draw(generator: Generator, batch: int) -> Examples:
        one = latched(generator, batch)
        lengths = 8 + integers(generator, 7, batch)
        lengths[0] = length
        padding = torch.arange(length) >= lengths[:, None]
        inputs = one.inputs.masked_fill(padding[..., None], 0.0)
        return dataclasses.replace(one, inputs=inputs, lengths=lengths)

    return draw


def recent(length: int, classes: int) -> Draw:
    """The class is that of the sum of the last three steps, however long the sequence is."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = torch.randn(batch, length, classes, generator=generator)
        targets = inputs[:, -3:].sum(1).argmax(-1)
        return Examples(inputs, targets, steps(batch, *range(length - 6)))

    return draw


def recent_tokens(length: int, symbols: int) -> Draw:
    """At each step, the sum of this token and the one before, modulo the number of tokens."""

    def draw(generator: Generator, batch: int) -> Examples:
        inputs = integers(generator, symbols, batch, length)
        targets = torch.full_like(inputs, -100)
        targets[:, 1:] = (inputs[:, 1:] + inputs[:, :-1]) % symbols
        late = torch.zeros(batch, length, dtype=torch.bool)
        late[:, length // 2 + 6 :] = True
        return Examples(inputs, targets, steps(batch, *range(length // 2)), dependents=late)

    return draw


_OWN = "development"
enter(Task("latch-40", _OWN, "class", 40, 39, 3, 3, False, math.log(3), latch(40, 3, 0.3)))
enter(Task("latch-32", _OWN, "class", 32, 31, 4, 4, False, math.log(4), latch(32, 4, 0.3)))
enter(Task("token-40", _OWN, "class", 40, 39, 12, 4, True, math.log(4), first_token(40, 4, 8)))
enter(Task("adding-24", _OWN, "value", 24, 23, 2, 1, False, 1 / 3, adding(24)))
enter(Task("echo-6", _OWN, "steps", 40, 6, 4, 4, True, math.log(4), echo(40, 6, 4)))
enter(Task("announce-40", _OWN, "steps", 40, 39, 3, 3, False, math.log(3), announce(40, 3, 0.3)))
_VARYING = padded_latch(60, 3, 0.3)
enter(Task("padded-60", _OWN, "class", 60, 13, 3, 3, False, math.log(3), _VARYING, padded=True))
_LATE = recent(40, 3)
enter(Task("recent-40", _OWN, "class", 40, 2, 3, 3, False, math.log(3), _LATE, long=False))
_PAIRS = recent_tokens(40, 4)
enter(Task("pairs-40", _OWN, "steps", 40, 1, 4, 4, True, math.log(4), _PAIRS, long=False))
