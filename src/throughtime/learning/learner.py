"""The contract of learners: a chunk of a sequence in; its loss, gradients and a new state out."""

import abc
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from throughtime.core.cell import Cell, Streams
from throughtime.core.errors import LearnerRefusalError, ShapeError
from throughtime.core.learnable import StepwiseModel
from throughtime.core.sequence import steps_since_reset
from throughtime.core.state import State, map_state, restarted


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Some steps of a batch of sequences; the next chunk goes on where it ends.

    Attributes:
        inputs: (time, batch, input).
        targets: (time, batch, ...).
        resets: True where a sequence starts afresh; None for the very start alone.
        weights: weights of the steps' losses, 0 for a step without a target; None for 1 everywhere.

    Raises:
        ShapeError: whose first two axes differ.
    """

    inputs: Float[Tensor, "time batch input"]
    targets: Tensor
    resets: Bool[Tensor, "time batch"] | None = None
    weights: Float[Tensor, "time batch"] | None = None

    def __post_init__(self) -> None:
        for name in ("targets", "resets", "weights"):
            value = getattr(self, name)
            if value is not None and value.shape[:2] != self.inputs.shape[:2]:
                raise ShapeError(
                    name,
                    got=tuple(value.shape),
                    expected=f"{tuple(self.inputs.shape[:2])} first, time and batch of the inputs",
                )

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def part(self, start: int, stop: int) -> "Chunk":
        """Some of its steps.

        Arguments:
            start, stop: bounds of a slice.
        """
        at = slice(start, stop)
        return Chunk(
            self.inputs[at],
            self.targets[at],
            None if self.resets is None else self.resets[at],
            None if self.weights is None else self.weights[at],
        )


class LearnerState(NamedTuple):
    """All that a learner carries from one chunk to the next: tensors alone, to be saved.

    Attributes:
        cell: state of the cell, without a graph.
        started: (batch,) whether a sequence has had its first step.
        memory: the learner's own, nested tuples of tensors.
        random: (bytes,) state of its generator.
    """

    cell: State
    started: Bool[Tensor, " batch"]
    memory: State
    random: UInt8[Tensor, " bytes"]


class Update(NamedTuple):
    """A chunk's loss and gradients, and the learner's state after it.

    Attributes:
        loss: sum over its steps, mean over the batch, of the weighted losses.
        gradients: gradients of the loss, or the learner's estimate of them, by the parameter's
            name.
        state: the learner's state after the chunk.
    """

    loss: Float[Tensor, ""]
    gradients: dict[str, Tensor]
    state: LearnerState


class Learner(abc.ABC):
    """A way of finding gradients, over chunks of any length.

        L = sum over t, mean over the batch, of weight_t * l_t

    Gradients of successive chunks add up. Learners hold no state: what they remember is in
    `LearnerState`. Random numbers, a cell's streams among them, are drawn step by step, so that
    they do not depend on how a stream is cut into chunks. Streams that last through a call, such as
    the masks of dropout per sequence, last through a chunk.
    """

    @abc.abstractmethod
    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """The learner's own memory before the first step; an empty tuple for none.

        Arguments:
            model: the model that is trained.
            batch_size: number of sequences, at least 1.

        Raises:
            LearnerRefusalError: this learner cannot teach this model.
        """

    @abc.abstractmethod
    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Return loss and gradients of a chunk.

        Arguments:
            model: its parameters are read, and neither they nor their `.grad` are changed.
            state: the learner's state before the chunk.
            chunk: a chunk of at least one step.
        """

    def init(self, model: StepwiseModel, batch_size: int, seed: int = 0) -> LearnerState:
        """The state before the first step.

        Arguments:
            model: the model that is trained.
            batch_size: number of sequences, at least 1.
            seed: seed of the learner's random numbers and of the cell's.

        Raises:
            LearnerRefusalError: this learner cannot teach this model, or what wraps it.
        """
        if not isinstance(model, StepwiseModel):
            raise LearnerRefusalError(
                type(self).__name__,
                got=f"{type(model).__module__}.{type(model).__name__}",
                expected="a StepwiseModel itself: what wraps it, as data-parallel training does, "
                "does not have a learner's gradients",
                fix="Give the model within; each process adds up the gradients that it gets. Or "
                "train the wrapped model by backpropagation, with loss.backward().",
            )
        like = next(model.cell.parameters())
        start = model.cell.initial_state(batch_size, dtype=like.dtype, device=like.device)
        return LearnerState(
            map_state(torch.Tensor.detach, start),
            torch.zeros(batch_size, dtype=torch.bool, device=like.device),
            self.memory(model, batch_size),
            torch.Generator().manual_seed(seed).get_state(),
        )


def trained(model: StepwiseModel) -> dict[str, Tensor]:
    """The parameters that have gradients, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def starts(state: LearnerState, chunk: Chunk) -> Bool[Tensor, "time batch"]:
    """Return True where a step starts from the cell's initial state, as all first steps do."""
    shape = chunk.inputs.shape[:2]
    resets = torch.zeros(shape, dtype=torch.bool, device=chunk.inputs.device)
    if chunk.resets is not None:
        resets |= chunk.resets
    resets[0] |= ~state.started
    return resets


def generator_of(state: LearnerState) -> torch.Generator:
    """The generator as it was left."""
    generator = torch.Generator()
    generator.set_state(state.random)
    return generator


def refuse_autocast(learner: str, chunk: Chunk, why: str) -> None:
    """Raise LearnerRefusalError under autocast.

    Arguments:
        learner: name of the learner that refuses.
        chunk: the chunk whose device counts.
        why: reason for full precision.
    """
    if torch.is_autocast_enabled(chunk.inputs.device.type):
        raise LearnerRefusalError(
            learner,
            got="autocast",
            expected=f"full precision: {why}",
            fix="Leave autocast off, or learn by BPTT().",
        )


def draws(
    model: StepwiseModel,
    cell: State,
    resets: Bool[Tensor, "time batch"],
    random: torch.Generator,
    before: Streams = (),
) -> Iterator[Streams]:
    """The cell's streams of each step, (1, batch, ...) on the CPU, each drawn when it is needed.

    Arguments:
        model: the model; its cell and its mode count.
        cell: its state before the steps.
        resets: True where a step starts afresh.
        random: generator of all random numbers.
        before: streams of the step before, if it is one of the same chunk.
    """
    if not model.cell.streams:
        yield from ((),) * len(resets)
        return
    like = next(model.cell.parameters())
    lasting = [name in model.cell.lasting for name in model.cell.streams]
    for one in steps_since_reset(cell.steps, resets, len(resets)):
        drawn: Streams = model.cell.draw_streams(
            one[None], training=model.training, dtype=like.dtype, generator=random
        )
        if before and any(lasting):
            starts_afresh = (one == 0).cpu()[None, :, None]
            drawn = tuple(
                torch.where(starts_afresh, new, old.to(new.device)) if lasts else new
                for new, old, lasts in zip(drawn, before, lasting, strict=True)
            )
        before = drawn
        yield drawn


def draw(
    model: StepwiseModel,
    cell: State,
    resets: Bool[Tensor, "time batch"],
    random: torch.Generator,
    before: Streams = (),
) -> Streams:
    """The cell's streams for some steps, drawn one by one.

    Arguments:
        model, cell, resets, random, before: arguments of `draws`.
    """
    return together(list(draws(model, cell, resets, random, before)), resets.device)


def together(each: list[Streams], device: torch.device) -> Streams:
    """The streams of single steps as one.

    Arguments:
        each: streams of single steps, from `draws`.
        device: device on which they are used.
    """
    return tuple(torch.cat(parts).to(device) for parts in zip(*each, strict=True))


def states_before(
    cell: Cell, start: State, leaving: State | None, resets: Bool[Tensor, "time batch"]
) -> State:
    """Return the states that steps start from, of time * batch rows, without a graph.

    Arguments:
        cell: the cell whose initial state a reset starts from.
        start: the state before the first step.
        leaving: the states after the steps, (time, batch, ...) or (time - 1, batch, ...); None for
            a single step.
        resets: True where a step starts from the initial state.
    """
    before = start
    if leaving is not None:
        last = len(resets) - 1
        before = map_state(
            lambda s, after: torch.cat([s, after[:last].flatten(0, 1)]), start, leaving
        )
    if resets.any():
        like = start.h
        fresh = cell.initial_state(resets.numel(), dtype=like.dtype, device=like.device)
        before = restarted(resets.flatten(), fresh, before)
    return map_state(torch.Tensor.detach, before)
