"""How a run finds its gradients: by the model's own graph, by a learner, or by search."""

import abc
from collections.abc import Callable, Mapping
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, LearnerRefusalError
from throughtime.core.learnable import StepwiseModel
from throughtime.learning import (
    LEARNERS,
    Chunk,
    GradientPropagation,
    Learner,
    LearnerState,
    Proposer,
    load_state,
    search,
    state_dict,
)
from throughtime.models.sequence_model import SequenceModel
from throughtime.tasks.task import Batch, Task
from throughtime.training.config import RunConfig

Forward = Callable[[Batch], Tensor]
"""The model's answers to a batch, on whatever engine."""


class Teacher(abc.ABC):
    """Finds the gradients of a batch, or, in a search, the weights themselves.

    Attributes:
        one_batch: whether every update sees the first batch: what a search compares is the loss of
            the same sequences.
    """

    one_batch: bool = False

    @abc.abstractmethod
    def teach(self, batch: Batch, step: int) -> Tensor:
        """The loss, a scalar without a graph; the parameters' `grad` are set, or, in a search, the
        parameters.

        Arguments:
            batch: of this update.
            step: its number, from 0.
        """

    def keep(self) -> None:
        """Told that the update was made: what was taught last is not undone as divergence."""
        return

    def state(self) -> dict[str, Tensor]:
        """What it carries from update to update, to be saved."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`.

        Arguments:
            state: as it was saved.
        """
        del state


def build_teacher(config: RunConfig, model: nn.Module, task: Task, forward: Forward) -> Teacher:
    """The teacher that a configuration names.

    Arguments:
        config: learner, and penalties.
        model, task: of the run.
        forward: runs the model.

    Raises:
        UnknownNameError, ConfigurationError: no such learner or option.
        LearnerRefusalError: the learner cannot teach this model, or takes no penalty.
    """
    learner = LEARNERS.build(config.learner)
    penalised = config.gradient_propagation or config.sparse_outputs
    if isinstance(learner, Proposer):
        if penalised:
            raise LearnerRefusalError(
                config.learner,
                got="a penalty beside it",
                expected="gradients to add the penalty's to, which a search has none of",
                fix="Leave the penalty out, or learn by bptt.",
            )
        return _Search(learner, model, task, forward, config.seed)
    if config.learner == "bptt" and not penalised and not task.stream:
        return _Graph(task, forward)
    if config.gradient_propagation:
        learner = GradientPropagation(
            config.gradient_propagation, config.gradient_propagation_form, learner
        )
    stepwise = stepwise_model(model, task, config.learner, config.sparse_outputs)
    if task.stream:
        return _Stream(learner, stepwise, task, config)
    return _Chunks(learner, stepwise, task, config)


@final
class _Graph(Teacher):
    """Backpropagation through whatever the model does."""

    def __init__(self, task: Task, forward: Forward):
        self.task, self.forward = task, forward

    def teach(self, batch: Batch, step: int) -> Tensor:
        """By autograd."""
        del step
        loss = self.task.loss(self.forward(batch), batch)
        loss.backward()
        return loss.detach()


@final
class _Chunks(Teacher):
    """A learner, that starts afresh with each batch: its sequences have nothing to do with the
    last."""

    def __init__(self, learner: Learner, model: StepwiseModel, task: Task, config: RunConfig):
        self.learner, self.model, self.task, self.seed = learner, model, task, config.seed
        # by the number of sequences; a first step starts from the cell's own initial state
        count = config.batch_size
        self.starts: dict[int, LearnerState] = {count: learner.init(model, count)}

    def teach(self, batch: Batch, step: int) -> Tensor:
        """By the learner, its random numbers from the run's seed and the step."""
        chunk = chunk_of(self.task, batch)
        count = batch.inputs.shape[1]
        if count not in self.starts:
            self.starts[count] = self.learner.init(self.model, count)
        random = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        state = self.starts[count]._replace(random=random.get_state())
        loss, gradients, _ = self.learner.update(self.model, state, chunk)
        _assign(self.model, gradients)
        return loss


@final
class _Stream(Teacher):
    """A learner whose state goes on from batch to batch, as the task's sequences do."""

    def __init__(self, learner: Learner, model: StepwiseModel, task: Task, config: RunConfig):
        self.learner, self.model, self.task = learner, model, task
        self.carried = self.after = learner.init(model, config.batch_size, config.seed)

    def teach(self, batch: Batch, step: int) -> Tensor:
        """By the learner, from the state after the batch before."""
        del step
        chunk = chunk_of(self.task, batch)
        loss, gradients, self.after = self.learner.update(self.model, self.carried, chunk)
        _assign(self.model, gradients)
        return loss

    def keep(self) -> None:
        """The state after the batch is that before the next."""
        self.carried = self.after

    def state(self) -> dict[str, Tensor]:
        """The learner's."""
        return state_dict(self.carried)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The learner's.

        Arguments:
            state: as it was saved.
        """
        self.carried = load_state(self.carried, state)


def _assign(model: StepwiseModel, gradients: Mapping[str, Tensor]) -> None:
    """Put gradients where an optimiser looks."""
    for name, parameter in model.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name]


@final
class _Search(Teacher):
    """A search for weights; an update is a trial, and the model has the best that were tried."""

    one_batch = True

    def __init__(
        self, proposer: Proposer, model: nn.Module, task: Task, forward: Forward, seed: int
    ):
        self.proposer, self.task, self.forward = proposer, task, forward
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        start = nn.utils.parameters_to_vector(self.parameters)
        self.searched = proposer.init(start.cpu(), seed)

    def teach(self, batch: Batch, step: int) -> Tensor:
        """Try what is proposed."""
        del step

        def cost(proposed: Tensor) -> Tensor:
            losses: list[Tensor] = []
            for weights in proposed:
                self._take(weights)
                losses.append(self.task.loss(self.forward(batch), batch).cpu())
            return torch.stack(losses).to(proposed)

        with torch.no_grad():
            self.searched, _ = search(cost, self.proposer, self.searched, 1)
            self._take(self.searched.best)
        return self.searched.cost

    def _take(self, weights: Tensor) -> None:
        nn.utils.vector_to_parameters(weights.to(self.parameters[0]), self.parameters)

    def state(self) -> dict[str, Tensor]:
        """The search's."""
        best, cost, memory, random = self.searched
        own = {f"memory.{i}": tensor for i, tensor in enumerate(memory)}
        return {"best": best, "cost": cost, "random": random, **own}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The search's.

        Arguments:
            state: as it was saved.
        """
        memory = tuple(state[f"memory.{i}"] for i in range(len(self.searched.memory)))
        self.searched = type(self.searched)(state["best"], state["cost"], memory, state["random"])


def stepwise_model(
    model: nn.Module, task: Task, learner: str, sparsity: float = 0.0
) -> StepwiseModel:
    """A model as a learner sees it, with the model's own parameters.

    Arguments:
        model: of the registry.
        task: whose loss.
        learner: its name, for errors.
        sparsity: see `StepwiseModel`.

    Raises:
        LearnerRefusalError: the model is no cell and a read-out of every step, or its parameters
            are made of others.
    """
    fix = "bptt without penalties learns any model, of a task whose batches are apart."
    if not isinstance(model, SequenceModel):
        raise LearnerRefusalError(
            learner, got=type(model).__name__, expected="a recurrent layer with a read-out", fix=fix
        )
    try:
        cell = model.recurrent.as_cell()
    except ConfigurationError as error:
        both = model.recurrent.bidirectional
        got = "a bidirectional layer" if both else "a layer with dropout between its levels"
        raise LearnerRefusalError(
            learner, got=got, expected="a layer that steps forward alone", fix=fix
        ) from error
    stepwise = StepwiseModel(cell, model.readout, _row_loss(task), sparsity)
    if {id(p) for p in stepwise.parameters()} != {id(p) for p in model.parameters()}:
        raise LearnerRefusalError(
            learner,
            got="parameters that the cell's tensors are made of, by a parametrisation",
            expected="parameters that the cell reads itself",
            fix=fix,
        )
    return stepwise


def chunk_of(task: Task, batch: Batch) -> Chunk:
    """A batch as a chunk whose weighted losses sum up to the task's loss.

    Arguments:
        task: which answers it asks for.
        batch: of it.
    """
    x, targets = batch.inputs, batch.targets
    time, count = x.shape[:2]
    if task.answer == "class_per_step":
        answered = targets >= 0
        weights = answered.to(x.dtype) * (count / answered.sum().to(x.dtype))
    elif task.answer == "value_per_step":
        weights = torch.full((time, count), 1 / time, dtype=x.dtype, device=x.device)
    else:
        last = torch.full((count,), time) if batch.lengths is None else batch.lengths
        weights = F.one_hot(last - 1, time).T.to(x)
        targets = targets.expand(time, *targets.shape)
    return Chunk(x, targets, None, weights)


def _row_loss(task: Task) -> Callable[[Tensor, Tensor], Tensor]:
    """The task's loss of single answers."""
    if task.answer in ("value", "value_per_step"):
        return lambda answers, targets: (answers - targets).square().mean(-1)
    return lambda answers, targets: F.cross_entropy(
        answers, targets, ignore_index=-1, reduction="none"
    )
