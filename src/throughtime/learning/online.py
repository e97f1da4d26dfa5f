"""Learning from a stream that need never end, and what is carried along, to be saved."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from throughtime.core.errors import ConfigurationError, StateError
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import map_state, tensors_by_path
from throughtime.learning.learner import Chunk, Learner, LearnerState


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
