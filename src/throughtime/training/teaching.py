"""The gradients of a run: by the model's own graph, by a learner, or by search."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from throughtime.core.decoding import NextSymbol
from throughtime.core.errors import ConfigurationError, LearnerRefusalError
from throughtime.core.scoring import Score, Stepwise, StepwiseModel
from throughtime.core.state import map_state
from throughtime.layers import RecurrentLayer
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
from throughtime.tasks.kinds import Tokens
from throughtime.tasks.sequences import SequenceBatch, SequenceTask
from throughtime.tasks.task import Task
from throughtime.training.config import RunConfig
from throughtime.training.evaluation import detached
from throughtime.training.feedback import (
    FEEDBACKS,
    Fed,
    Feedback,
    LearnedFeedback,
    TeacherForcing,
)

ScoreBatch = Callable[[Any, Any, Any, int], Score]
"""The score of a model on a batch, from the state of the batch before, at a training step."""


_FIX = "bptt without penalties learns any model; on a stream, any that goes forward in time."


class Teacher(abc.ABC):
    """Finds the gradients of a batch, or, in a search, the weights themselves.

    Attributes:
        one_batch: If True, every update sees the first batch: a search compares the losses of the
            same sequences.
    """

    one_batch: bool = False

    @abc.abstractmethod
    def teach(self, batch: Any, step: int) -> Tensor:
        """Return the loss, a scalar without a graph, and set `grad` of the parameters.

        A search sets the parameters themselves.

        Arguments:
            batch: batch of this update.
            step: number of the update, from 0.
        """

    @abc.abstractmethod
    def keep(self) -> None:
        """Carry the state of the last batch along: its update was made, and did not diverge."""

    @abc.abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the tensors that are carried from update to update, to be saved."""

    @abc.abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            KeyError, StateError: it is the state of another learner.
        """


def build_teacher(config: RunConfig, model: nn.Module, task: Task, score: ScoreBatch) -> Teacher:
    """The teacher that a configuration names.

    Arguments:
        config: learner, and penalties.
        model, task: model and task of the run.
        score: function that scores the model.

    Raises:
        UnknownNameError, ConfigurationError: no such learner or option.
        LearnerRefusalError: the learner cannot teach this model, or takes no penalty.
    """
    learner = LEARNERS.build(config.learner)
    penalised = config.gradient_propagation or config.sparse_outputs
    feedback = FEEDBACKS.build(config.feedback)
    if not isinstance(feedback, TeacherForcing):
        _check_feedback(config, model)
        return _Fed(model, score, feedback, config.seed)
    if isinstance(learner, Proposer):
        if penalised:
            raise LearnerRefusalError(
                config.learner,
                got="a penalty beside it",
                expected="gradients to add the penalty's to, which a search has none of",
                fix="Leave the penalty out, or learn by bptt.",
            )
        return _Search(learner, model, score, config.seed)
    if config.learner == "bptt" and not penalised:
        if task.stream:
            _check_forward(model, config.learner)
        return _Graph(model, score)
    if config.gradient_propagation:
        learner = GradientPropagation(
            config.gradient_propagation, config.gradient_propagation_form, learner
        )
    stepwise = stepwise_model(model, task, config.learner, config.sparse_outputs)
    assert isinstance(task, SequenceTask)  # or it was refused
    if task.stream:
        return _Stream(learner, stepwise, task, config)
    return _Chunks(learner, stepwise, task, config)


@final
class _Graph(Teacher):
    """Backpropagation through the model's own graph; the state of a stream is carried along."""

    def __init__(self, model: nn.Module, score: ScoreBatch):
        self.model, self.score = model, score
        self.carried: Any = None
        self.after: Any = None

    def teach(self, batch: Any, step: int) -> Tensor:
        """Return the loss, and find the gradients by autograd."""
        score = self.score(self.model, batch, self.carried, step)
        score.loss.backward()
        self.after = detached(score.state)
        return score.loss.detach()

    def keep(self) -> None:
        """The state after the batch is that before the next."""
        self.carried = self.after

    def state(self) -> dict[str, Any]:
        """The state of the stream, if there is one."""
        return {} if self.carried is None else {"stream": self.carried}

    def load(self, state: Mapping[str, Any]) -> None:
        """The state of the stream.

        Raises:
            KeyError: it is the state of another learner.
        """
        if not state:
            return
        device = next(self.model.parameters()).device
        self.carried = map_state(lambda tensor: tensor.to(device), state["stream"])


@final
class _Fed(Teacher):
    """Backpropagation through the model's graph, with symbols that the model has drawn."""

    def __init__(self, model: nn.Module, score: ScoreBatch, feedback: Feedback, seed: int):
        self.model, self.score, self.feedback, self.seed = model, score, feedback, seed
        self.learned = feedback if isinstance(feedback, LearnedFeedback) else None
        self.carried: Any = None
        self.after: Any = None

    def teach(self, batch: Any, step: int) -> Tensor:
        """Return the loss without the feedback's penalty, and find the gradients of both."""
        fed = Fed(self.feedback, self.model, self.seed, step)
        score = self.score(fed, batch, self.carried, step)
        penalty = self.learned.penalty() if self.learned is not None else None
        (score.loss if penalty is None else score.loss + penalty).backward()
        if self.learned is not None:
            self.learned.learn()
        self.after = detached(score.state)
        return score.loss.detach()

    def keep(self) -> None:
        """The state after the batch is that before the next."""
        self.carried = self.after

    def state(self) -> dict[str, Any]:
        """The state of the stream, if there is one, and the feedback's."""
        learned = {} if self.learned is None else self.learned.state()
        own = {f"feedback.{name}": value for name, value in learned.items()}
        return own if self.carried is None else {**own, "stream": self.carried}

    def load(self, state: Mapping[str, Any]) -> None:
        """Both.

        Raises:
            KeyError: it is the state of another learner.
        """
        device = next(self.model.parameters()).device
        prefix = "feedback."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if self.learned is not None:
            self.learned.load({name: value.to(device) for name, value in own.items()})
        if "stream" in state:
            self.carried = map_state(lambda tensor: tensor.to(device), state["stream"])


def _check_feedback(config: RunConfig, model: nn.Module) -> None:
    """Raise ConfigurationError unless feedback reaches the model's losses, by BPTT alone."""
    if not isinstance(model, NextSymbol):
        raise ConfigurationError(
            f"feedback {config.feedback!r}",
            got=f"{type(model).__name__}, which reads no symbol of its own",
            expected="a language model or a decoder",
            fix="Leave --feedback out.",
        )
    if config.learner != "bptt" or config.gradient_propagation or config.sparse_outputs:
        raise ConfigurationError(
            f"feedback {config.feedback!r}",
            got="another learner or a penalty beside it",
            expected="learner 'bptt', and no penalty",
        )


@final
class _Chunks(Teacher):
    """A learner, that starts afresh with each batch: its sequences have nothing to do with the
    last."""

    def __init__(
        self, learner: Learner, model: StepwiseModel, task: SequenceTask, config: RunConfig
    ):
        self.learner, self.model, self.task, self.seed = learner, model, task, config.seed
        # by the number of sequences; a first step starts from the cell's own initial state
        count = config.batch_size
        self.starts: dict[int, LearnerState] = {count: learner.init(model, count)}

    def teach(self, batch: SequenceBatch, step: int) -> Tensor:
        """Return the loss; the learner's random numbers come from the run's seed and the step."""
        chunk, count = _chunk(self.task, batch), batch.size
        if count not in self.starts:
            self.starts[count] = self.learner.init(self.model, count)
        random = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        state = self.starts[count]._replace(random=random.get_state())
        loss, gradients, _ = self.learner.update(self.model, state, chunk)
        _assign(self.model, gradients)
        return loss

    def keep(self) -> None:
        """Carry nothing along."""

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue with nothing."""
        del state


@final
class _Stream(Teacher):
    """A learner whose state goes on from batch to batch, as the task's sequences do."""

    def __init__(
        self, learner: Learner, model: StepwiseModel, task: SequenceTask, config: RunConfig
    ):
        self.learner, self.model, self.task = learner, model, task
        self.carried = self.after = learner.init(model, config.batch_size, config.seed)

    def teach(self, batch: SequenceBatch, step: int) -> Tensor:
        """Return the loss, from the state after the batch before."""
        del step
        chunk = _chunk(self.task, batch)
        loss, gradients, self.after = self.learner.update(self.model, self.carried, chunk)
        _assign(self.model, gradients)
        return loss

    def keep(self) -> None:
        """The state after the batch is that before the next."""
        self.carried = self.after

    def state(self) -> dict[str, Any]:
        """The learner's."""
        return state_dict(self.carried)

    def load(self, state: Mapping[str, Any]) -> None:
        """The learner's."""
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

    def __init__(self, proposer: Proposer, model: nn.Module, score: ScoreBatch, seed: int):
        self.proposer, self.model, self.score = proposer, model, score
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        start = nn.utils.parameters_to_vector(self.parameters)
        self.searched = proposer.init(start.cpu(), seed)

    def teach(self, batch: Any, step: int) -> Tensor:
        """Try what is proposed."""

        def cost(proposed: Tensor) -> Tensor:
            losses: list[Tensor] = []
            for weights in proposed:
                self._take(weights)
                losses.append(self.score(self.model, batch, None, step).loss.cpu())
            return torch.stack(losses).to(proposed)

        with torch.no_grad():
            self.searched, _ = search(cost, self.proposer, self.searched, 1)
            self._take(self.searched.best)
        return self.searched.cost

    def keep(self) -> None:
        """Carry nothing else along: the search has its own state."""

    def _take(self, weights: Tensor) -> None:
        nn.utils.vector_to_parameters(weights.to(self.parameters[0]), self.parameters)

    def state(self) -> dict[str, Any]:
        """The search's."""
        best, cost, memory, random = self.searched
        own = {f"memory.{i}": tensor for i, tensor in enumerate(memory)}
        return {"best": best, "cost": cost, "random": random, **own}

    def load(self, state: Mapping[str, Any]) -> None:
        """The search's."""
        memory = tuple(state[f"memory.{i}"] for i in range(len(self.searched.memory)))
        self.searched = type(self.searched)(state["best"], state["cost"], memory, state["random"])


def stepwise_model(
    model: nn.Module, task: Task, learner: str, sparsity: float = 0.0
) -> StepwiseModel:
    """A model as a learner sees it, with the model's own parameters.

    Arguments:
        model: model that offers `Stepwise`.
        task: task that gives the loss of each step.
        learner: name of the learner, for errors.
        sparsity: strength of the penalty of `StepwiseModel`.

    Raises:
        LearnerRefusalError: the model is no cell and a read-out of every step, or its parameters
            are made of others.
    """
    if not (isinstance(model, Stepwise) and isinstance(task, SequenceTask)):
        raise LearnerRefusalError(
            learner,
            got=f"{type(model).__name__} on task {task.name}",
            expected="a model that offers its cell and its read-out of every step",
            fix=_FIX,
        )
    if isinstance(task.inputs, Tokens):
        raise LearnerRefusalError(
            learner,
            got=f"symbols, of task {task.name}, which the model embeds",
            expected="vectors",
            fix=_FIX,
        )
    _check_forward(model, learner)
    try:
        cell, readout = model.stepwise()
    except ConfigurationError as error:
        raise LearnerRefusalError(
            learner,
            got="a layer with dropout between its levels",
            expected="a layer that steps forward alone",
            fix=_FIX,
        ) from error
    stepwise = StepwiseModel(cell, readout, task.step_losses, sparsity)
    if {id(p) for p in stepwise.parameters()} != {id(p) for p in model.parameters()}:
        raise LearnerRefusalError(
            learner,
            got="parameters that the cell's tensors are made of, by a parametrisation",
            expected="parameters that the cell reads itself",
            fix=_FIX,
        )
    return stepwise


def _check_forward(model: nn.Module, learner: str) -> None:
    """Raise LearnerRefusalError if a layer of the model goes backward in time."""
    layers = (module for module in model.modules() if isinstance(module, RecurrentLayer))
    if any(layer.bidirectional for layer in layers):
        raise LearnerRefusalError(
            learner,
            got="a bidirectional layer",
            expected="a layer that steps forward alone",
            fix=_FIX,
        )


def _chunk(task: SequenceTask, batch: SequenceBatch) -> Chunk:
    """Return a batch as a chunk whose weighted losses sum up to the task's loss."""
    steps = task.steps(batch)
    return Chunk(steps.inputs, steps.targets, None, steps.weights)
