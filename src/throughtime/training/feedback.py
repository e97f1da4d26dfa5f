"""The symbols that a model reads in training: the true ones, or its own."""

import abc
import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.decoding import NextSymbol, mixed_losses
from throughtime.core.errors import ConfigurationError
from throughtime.core.registry import Registry

Schedule: TypeAlias = Literal["linear", "exponential", "inverse-sigmoid"]

FEEDBACKS: "Registry[Feedback]" = Registry("feedback")
"""Feedback by name. Builders take their options alone."""


class Feedback(abc.ABC):
    """The symbols that a model reads in training.

    A task scores `around(model, ...)` in place of the model.
    """

    @abc.abstractmethod
    def losses(
        self,
        model: NextSymbol,
        symbols: Int[Tensor, "time batch"],
        targets: Int[Tensor, "time batch"],
        state: Any,
        *,
        step: int,
        random: torch.Generator,
    ) -> tuple[Float[Tensor, "time batch"], Any]:
        """Return the loss of each target in nats, and the state after the last.

        Arguments:
            model: The model.
            symbols: True symbols; the first one is always read.
            targets: Symbol that follows each; -1 where none is due: its loss is 0.
            state: State before the symbols.
            step: Number of the update.
            random: Source of the random numbers of this update, on the CPU.
        """


class LearnedFeedback(Feedback):
    """A feedback that adds a term to the loss, and learns itself."""

    @abc.abstractmethod
    def penalty(self) -> Float[Tensor, ""] | None:
        """Return a term that is added to the loss of the last call of `losses`; None for none."""

    @abc.abstractmethod
    def learn(self) -> None:
        """Update the feedback itself, after the gradients of the model are found."""

    @abc.abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return the tensors that are carried from update to update."""

    @abc.abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved state.

        Arguments:
            state: Tensors of `state`.

        Raises:
            KeyError: A tensor is missing.
        """


@final
class Fed:
    """A model whose losses are those of a feedback; everything else is the model's.

    Arguments:
        feedback: The feedback.
        model: The model.
        seed: Seed of the run.
        step: Number of the update.
    """

    def __init__(self, feedback: Feedback, model: Any, seed: int, step: int):
        self._feedback, self._model, self._step = feedback, model, step
        self._random = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the model: a task that does not ask for losses gets no feedback.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            f"feedback {type(self._feedback).__name__}",
            got="a task that reads the model's answers",
            expected="a task that reads the losses of symbols, such as text or translation",
        )

    def losses(
        self, symbols: Int[Tensor, "time batch"], targets: Int[Tensor, "time batch"], state: Any
    ) -> tuple[Float[Tensor, "time batch"], Any]:
        """Return the losses of the feedback, and the state after the last symbol.

        Arguments:
            symbols: True symbols.
            targets: Symbol that follows each; -1 where none is due.
            state: State before the symbols.
        """
        return self._feedback.losses(
            self._model, symbols, targets, state, step=self._step, random=self._random
        )


class MixedFeedback(Feedback):
    """True symbols with some probability, else draws from the model: a coin for each token.

    Symbol x_t is the true one with probability e_i in update i, else it is drawn from the model's
    softmax after x_1 ... x_{t-1}.

    Attributes:
        straight: If True, the gradient of later steps goes through a draw; see `FreeRunning`.
    """

    straight: bool = False

    @abc.abstractmethod
    def probability(self, step: int) -> float:
        """Return the probability e_i of a true symbol.

        Arguments:
            step: Number i of the update, from 0.
        """

    @final
    def losses(
        self,
        model: NextSymbol,
        symbols: Int[Tensor, "time batch"],
        targets: Int[Tensor, "time batch"],
        state: Any,
        *,
        step: int,
        random: torch.Generator,
    ) -> tuple[Float[Tensor, "time batch"], Any]:
        """Return the losses of the true targets, after symbols that are mixed.

        Arguments:
            model: The model.
            symbols: True symbols; the first one is always read.
            targets: Symbol that follows each; -1 where none is due.
            state: State before the symbols.
            step: Number of the update.
            random: Source of random numbers, on the CPU.
        """
        true = torch.rand(symbols.shape, generator=random) < self.probability(step)
        return mixed_losses(model, symbols, targets, state, true, random, straight=self.straight)


@FEEDBACKS.register("teacher")
@final
class TeacherForcing(MixedFeedback):
    """The true symbols, whatever the model has drawn."""

    def probability(self, step: int) -> float:
        """Return 1.

        Arguments:
            step: Unused number of the update.
        """
        del step
        return 1.0


@FEEDBACKS.register("scheduled-sampling")
@final
class ScheduledSampling(MixedFeedback):
    """A true symbol with a probability that falls, else a draw from the model, by token.

        e_i = min(1, max(least, k - slope i))  linear
        e_i = k^i                              exponential, k < 1
        e_i = k / (k + exp(i / k))             inverse-sigmoid, k >= 1

    No gradient goes through a draw.

    Arguments:
        schedule: Course of e_i.
        k: Constant of the schedule; None for 1, 0.999 and 1000. Above 1 in the linear schedule, the
            true symbols alone are read at first.
        slope: Decrease of the linear schedule in an update.
        least: Least value of the linear schedule.

    Raises:
        ConfigurationError: A constant is out of range.

    Example:
        >>> schedule = ScheduledSampling(schedule="inverse-sigmoid", k=100.0)
        >>> round(schedule.probability(0), 3), round(schedule.probability(1000), 4)
        (0.99, 0.0045)

    Source:
        Bengio, Vinyals, Jaitly and Shazeer, Scheduled sampling for sequence prediction with
        recurrent neural networks, 2015.
    """

    def __init__(
        self,
        *,
        schedule: Schedule = "inverse-sigmoid",
        k: float | None = None,
        slope: float = 1e-4,
        least: float = 0.0,
    ):
        usual = {"linear": 1.0, "exponential": 0.999, "inverse-sigmoid": 1000.0}
        if schedule not in usual:
            raise ConfigurationError("schedule", got=repr(schedule), expected=", ".join(usual))
        self.schedule, self.slope, self.least = schedule, slope, least
        self.k = usual[schedule] if k is None else k
        ranges = {"linear": (0.0, 1e18), "exponential": (0.0, 1.0), "inverse-sigmoid": (1.0, 1e18)}
        low, high = ranges[schedule]
        if not low <= self.k <= high:
            raise ConfigurationError(
                f"k of the {schedule} schedule", got=self.k, expected=f"{low:g} to {high:g}"
            )
        if not slope >= 0:
            raise ConfigurationError("slope", got=slope, expected="at least 0")
        if not 0 <= least <= 1:
            raise ConfigurationError("least", got=least, expected="0 to 1")

    def probability(self, step: int) -> float:
        """Return the probability of a true symbol.

        Arguments:
            step: Number of the update, from 0.
        """
        if self.schedule == "linear":
            return min(1.0, max(self.least, self.k - self.slope * step))
        if self.schedule == "exponential":
            return self.k**step
        return self.k / (self.k + math.exp(min(step / self.k, 700.0)))


@FEEDBACKS.register("free-running")
@final
class FreeRunning(MixedFeedback):
    """The model's own draws; the first symbol alone is given.

    With gradient="straight-through", the drawn symbol s is read as

        e_s + p - stop(p)          e_s one-hot, p the softmax that it is drawn from

    so that the gradient of what the next steps read goes into p: an estimator of low variance, with
    a bias (our choice; Bengio, Leonard and Courville 2013 for binary units).

    Arguments:
        gradient: "none", or "straight-through".

    Raises:
        ConfigurationError: Another gradient.
    """

    def __init__(self, *, gradient: Literal["none", "straight-through"] = "none"):
        if gradient not in ("none", "straight-through"):
            raise ConfigurationError(
                "gradient", got=repr(gradient), expected="'none' or 'straight-through'"
            )
        self.straight = gradient == "straight-through"

    def probability(self, step: int) -> float:
        """Return 0.

        Arguments:
            step: Unused number of the update.
        """
        del step
        return 0.0
