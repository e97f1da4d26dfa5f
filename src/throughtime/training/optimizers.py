"""Updates of weights: optimisers by name, learning rates as functions of the step, clipping."""

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, final

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.learning import Nesterov, Rescaled

OptionValue = float | int | bool | str | tuple[float, ...]
"""A value of an optimiser's option; tuples are for pairs such as Adam's betas."""

# `lr` is the run's learning_rate; `differentiable` and `capturable` change how a step is recorded,
# not what it computes, and ask for loops of another kind.
_NOT_OPTIONS = frozenset({"self", "params", "lr", "differentiable", "capturable"})
_SPARSE_ONLY = frozenset({"SparseAdam"})


def optimizer_names() -> list[str]:
    """The names of torch.optim's optimisers that can train a run.

    Example:
        >>> {"Adam", "SGD", "RMSprop"} <= set(optimizer_names())
        True
        >>> "LBFGS" in optimizer_names()
        False
    """
    return sorted(name for name in _all_optimizers() if _refusal(name) is None)


def check_optimizer(name: str, options: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """The options, with lists as tuples, once name and options are known to exist.

    Raises:
        UnknownNameError: no such optimiser, or it has no such option.
        ConfigurationError: the optimiser cannot be used here, as the message explains, the
            learning rate is among the options, or a value is no number, flag, text or list of
            numbers.
    """
    if name not in _all_optimizers():
        raise UnknownNameError("optimizer", name, optimizer_names())
    reason = _refusal(name)
    if reason is not None:
        raise ConfigurationError(
            f"optimizer {name} cannot train a run: {reason}",
            fix=f"Choose one of: {', '.join(optimizer_names())}.",
        )
    if not isinstance(options, Mapping):
        raise ConfigurationError(
            "optimizer_options of the run", got=repr(options), expected="values by name"
        )
    known = inspect.signature(_all_optimizers()[name].__init__).parameters.keys() - _NOT_OPTIONS
    checked: dict[str, OptionValue] = {}
    for key, value in options.items():
        if key == "lr":
            raise ConfigurationError(
                "lr among the optimizer's options", fix="Set the run's learning_rate instead."
            )
        if key not in known:
            raise UnknownNameError(f"option of optimizer {name!r}", str(key), known)
        checked[key] = _option_value(f"{key} of optimizer {name!r}", value)
    return checked


def build_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    options: Mapping[str, OptionValue],
) -> torch.optim.Optimizer:
    """An optimiser over these parameters.

    Arguments:
        name: a class of torch.optim.
        parameters: tensors that it updates.
        learning_rate: above 0.
        options: further arguments of the class.

    Raises:
        UnknownNameError: as `check_optimizer`.
        ConfigurationError: as `check_optimizer`, and where torch refuses the values or the
            parameters: a negative momentum; Muon over a bias, since it takes matrices alone.
    """
    options = check_optimizer(name, options)
    try:
        arguments: dict[str, Any] = {"lr": learning_rate, **options}
        return _all_optimizers()[name](parameters, **arguments)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ConfigurationError(
            f"optimizer {name} with learning rate {learning_rate} and {options}, for this model",
            got=str(error),
            fix="Change the options, or choose another optimizer.",
        ) from error


def _all_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    return {
        name: member
        for name, member in {
            **vars(torch.optim),
            "Nesterov": Nesterov,
            "Rescaled": Rescaled,
        }.items()
        if isinstance(member, type)
        and issubclass(member, torch.optim.Optimizer)
        and member is not torch.optim.Optimizer
    }


def _refusal(name: str) -> str | None:
    """Return the reason against an optimiser in a loop with one dense gradient a step, or None."""
    if name in _SPARSE_ONLY:
        return "it takes sparse gradients alone, and recurrent weights have dense ones"
    closure = inspect.signature(_all_optimizers()[name].step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        return "its step needs a closure that evaluates the loss several times"
    return None


def _option_value(subject: str, value: object) -> OptionValue:
    if isinstance(value, list | tuple):
        numbers = tuple(v for v in value if isinstance(v, int | float) and math.isfinite(v))
        if len(numbers) == len(value):
            return numbers
    elif isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value)):
        return value
    raise ConfigurationError(
        subject, got=repr(value), expected="a finite number, true, false, text or a list of numbers"
    )


FINAL_FRACTION = 0.01
"""Where the exponential schedule ends, as a fraction of the peak; our choice."""


def depends_on_steps(schedule: str) -> bool:
    """True if the learning rate of an update depends on the number of steps of the whole run.

    Example:
        >>> depends_on_steps("constant"), depends_on_steps("cosine")
        (False, True)
    """
    return schedule != "constant"


def learning_rate(
    schedule: Literal["constant", "linear", "cosine", "exponential", "halving"],
    peak: float,
    step: int,
    steps: int,
    warmup_steps: int = 0,
) -> float:
    """The learning rate of one update.

    With w warmup steps, n = steps - w and k = step - w:

        step < w:     peak (step + 1) / w
        constant:     peak
        linear:       peak (1 - k / n)
        cosine:       peak (1 + cos(pi k / n)) / 2
        exponential:  peak FINAL_FRACTION^(k / n)
        halving:      peak 2^-max(0, floor(15 k / n) - 9)     constant for 10 of 15 parts, halved 5
                                                              times after that

    Arguments:
        schedule: the shape after the warmup.
        peak: the largest value.
        step: number of the update, 0 to steps - 1.
        steps: updates of the whole run.
        warmup_steps: updates of the warmup, fewer than `steps`.

    Returns:
        Above 0 at every step: the decay would reach its end one update after the last.

    Example:
        >>> [learning_rate("linear", 1.0, step, steps=6, warmup_steps=2) for step in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]

    Source:
        The cosine is that of Loshchilov and Hutter (2017), SGDR, without its restarts; the linear
        warmup that of Goyal et al. (2017). Halving after two thirds is usual for sequence to
        sequence models trained by gradient descent (Sutskever et al. 2014: 5 of 7.5 epochs).
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / (steps - warmup_steps)
    if schedule == "linear":
        return peak * (1.0 - done)
    if schedule == "cosine":
        return peak * (1.0 + math.cos(math.pi * done)) / 2.0
    if schedule == "exponential":
        return peak * FINAL_FRACTION**done
    if schedule == "halving":
        parts = 15 * (step - warmup_steps) // (steps - warmup_steps)
        return peak * 0.5 ** max(0, parts - 9)
    return peak


def gradient_norm(gradients: Sequence[Tensor]) -> Float64[Tensor, ""]:
    """The Euclidean norm of all gradients as one vector, summed in float64.

    In float32 the squares of an exploding gradient overflow beyond 1e19, and those of a vanished
    one underflow below 1e-23. A norm that is not finite means that an element is not.

    Example:
        >>> gradient_norm([torch.tensor([3.0]), torch.tensor([[4.0]])]).item()
        5.0
    """
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients]
    return torch.linalg.vector_norm(torch.stack(norms))


@final
class Clipping:
    """Clipping of a model's gradient g, in place.

        by value:  g_i <- max(-v, min(v, g_i))
        by norm:   g   <- g c / ||g||   where ||g|| > c

    by value first if both are given; the norm is then that of what is left.

    Arguments:
        norm: c, above 0, or None.
        value: v, above 0, or None.

    Source:
        By norm: Pascanu, Mikolov and Bengio (2013), algorithm 1, over all parameters at once.
        By value: Mikolov (2012).

    Differs from torch.nn.utils.clip_grad_norm_, which scales by c / (||g|| + 1e-6).
    """

    def __init__(self, norm: float | None = None, value: float | None = None):
        self.norm = norm
        self.value = value

    def measure(self, gradients: Sequence[Tensor]) -> Float64[Tensor, "2"]:
        """The gradient's norm, and its largest element's size (0 where that is not bounded).

        Both stay on the device, for `clip` to take once they are read.
        """
        norm = gradient_norm(gradients)
        if self.value is None or not gradients:
            return torch.stack([norm, torch.zeros_like(norm)])
        largest = torch.stack(
            [gradient.abs().max() for gradient in gradients if gradient.numel()]
        ).max()
        return torch.stack([norm, largest.to(torch.float64)])

    def clip(self, gradients: Sequence[Tensor], norm: float, largest: float) -> bool:
        """Clip in place what was measured; whether that changed anything.

        Arguments:
            gradients: gradients that were measured, unchanged since.
            norm, largest: result of `measure`, finite.
        """
        clipped = False
        if self.value is not None and largest > self.value:
            for gradient in gradients:
                gradient.clamp_(-self.value, self.value)
            clipped = True
            if self.norm is not None:
                norm = gradient_norm(gradients).item()
        if self.norm is not None and norm > self.norm:
            for gradient in gradients:
                gradient.mul_(self.norm / norm)
            clipped = True
        return clipped
