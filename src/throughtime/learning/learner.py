"""Learners: a chunk of a sequence in; its loss, gradients and a new state out; and the loop."""

import abc
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from throughtime.core.cell import Cell, Streams
from throughtime.core.errors import ConfigurationError, LearnerRefusalError, ShapeError, StateError
from throughtime.core.scoring import StepwiseModel
from throughtime.core.sequence import steps_since_reset
from throughtime.core.state import State, map_state, restarted, tensors_by_path


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
    """Raise LearnerRefusalError under autocast."""
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
        if any(lasting):
            starts_afresh = (one == 0).cpu()[None, :, None]
            drawn = tuple(
                torch.where(starts_afresh, new, old.to(new.device)) if lasts else new
                for new, old, lasts in zip(drawn, before or drawn, lasting, strict=True)
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
    """The cell's streams for some steps, drawn one by one."""
    return together(list(draws(model, cell, resets, random, before)), resets.device)


def together(each: list[Streams], device: torch.device) -> Streams:
    """The streams of single steps as one."""
    return tuple(torch.cat(parts).to(device) for parts in zip(*each, strict=True))


def states_before(
    cell: Cell, start: State, leaving: State | None, resets: Bool[Tensor, "time batch"]
) -> State:
    """Return the states that steps start from, of time * batch rows, without a graph.

    Arguments:
        leaving: the states after the steps, (time, batch, ...) or (time - 1, batch, ...); None for
            a single step.
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


class StreamStep(NamedTuple):
    """The result of one chunk of a stream.

    Attributes:
        number: number of the chunk, from 0.
        loss: loss of the chunk; see `Update`.
        norm: norm of the whole gradient, before it was clipped.
        diverged: True if loss or gradient are not finite: then the weights are those before the
            chunk, and so is the state.
        state: the learner's, after the chunk.
    """

    number: int
    loss: float
    norm: float
    diverged: bool
    state: LearnerState


def learn(
    model: StepwiseModel,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    chunks: Iterable[Chunk],
    state: LearnerState | None = None,
    *,
    clip_norm: float | None = None,
    seed: int = 0,
) -> Iterator[StreamStep]:
    """Learn from one chunk after the other, an update of the weights each, while they come.

    What is carried along does not grow with the stream. It ends with the stream, or with the chunk
    at which it diverged.

    Arguments:
        model: the model that is trained, in place.
        learner: finds the gradients.
        optimizer: optimiser of the model's parameters.
        chunks: chunks of one stream, all with the same number of sequences: a list or a generator.
        state: the learner's state so far; None to start.
        clip_norm: bound on the norm of the whole gradient, above 0, or None.
        seed: seed of the learner's random numbers, at the start.

    Raises:
        LearnerRefusalError: the learner cannot teach this model.
        ConfigurationError: a bound that is not above 0.

    Example:
        >>> import itertools
        >>> from throughtime.cells import ElmanCell
        >>> from throughtime.learning import RTRL
        >>> def squared(answers, targets):
        ...     return (answers - targets).square().sum(-1)
        >>> model = StepwiseModel(ElmanCell(1, 4), torch.nn.Linear(4, 1), squared)
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        >>> endless = (Chunk(torch.ones(1, 2, 1), torch.ones(1, 2, 1)) for _ in itertools.count())
        >>> for step in learn(model, RTRL(), optimizer, endless):
        ...     if step.loss < 0.1:
        ...         break
    """
    if clip_norm is not None and not clip_norm > 0:
        raise ConfigurationError("clip_norm", got=clip_norm, expected="above 0, or None")
    for number, chunk in enumerate(chunks):
        before = learner.init(model, chunk.inputs.shape[1], seed) if state is None else state
        loss, gradients, after = learner.update(model, before, chunk)
        norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients.values()]
        found, norm = torch.stack([loss.double(), torch.linalg.vector_norm(torch.stack(norms))])
        if not (math.isfinite(found) and math.isfinite(norm)):
            yield StreamStep(number, float(found), float(norm), True, before)
            return
        scale = 1.0 if clip_norm is None or norm <= clip_norm else clip_norm / float(norm)
        for name, parameter in model.named_parameters():
            if name in gradients:
                parameter.grad = gradients[name] * scale
        optimizer.step()
        state = after
        yield StreamStep(number, float(found), float(norm), False, state)


def state_dict(state: LearnerState) -> dict[str, Tensor]:
    """A learner's state as tensors by name, as safetensors saves them.

    Arguments:
        state: state of any learner.

    Example:
        >>> from throughtime.cells import ElmanCell
        >>> from throughtime.learning import UORO
        >>> model = StepwiseModel(ElmanCell(1, 2), torch.nn.Linear(2, 1), torch.nn.MSELoss())
        >>> sorted(state_dict(UORO().init(model, 3)))
        ['cell.0', 'memory.0', 'memory.1', 'random', 'started']
    """
    return {
        name: tensor.detach().clone().contiguous()
        for field, value in zip(LearnerState._fields, state, strict=True)
        for name, tensor in tensors_by_path(value, field)
    }


def load_state(like: LearnerState, tensors: Mapping[str, Tensor]) -> LearnerState:
    """The state that `state_dict` took apart.

    Arguments:
        like: state from `init`, for the same learner, model and number of sequences.
        tensors: the tensors that were saved.

    Raises:
        StateError: they are those of another learner or model.
    """
    wanted = state_dict(like)
    if wanted.keys() != tensors.keys():
        raise StateError(
            "tensors of a learner's state",
            got=", ".join(sorted(tensors)),
            expected=", ".join(sorted(wanted)),
            fix="Start from init() of the learner and the model that were saved.",
        )

    values = iter([tensors[name] for name in wanted])
    return map_state(lambda tensor: next(values).to(tensor.device), like)
