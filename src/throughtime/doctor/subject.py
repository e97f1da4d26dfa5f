"""The subject of a diagnosis: copies of the user's model, batches and loss. Originals never run."""

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from throughtime.core.errors import ConfigurationError, DataError, ThroughtimeError
from throughtime.foreign.hidden import register_hidden
from throughtime.foreign.unchanged import evaluating

MOST_BATCHES = 64
HELD_OUT = 0.25

GRACE = 3.0
"""Seconds beyond the budget that trials may take to reach their least number of updates."""

_FEW, _FEWEST = 4, 2  # held-out batches: for an interval that is of use, and for one at all

LossFunction = Callable[[nn.Module, Any], Tensor]


@final
class Clock:
    """A budget of time that runs down.

    Arguments:
        budget: length in seconds.
        left: seconds that are left at the start; the whole budget by default.
        report: function that `at` calls with the name of a stage.
    """

    def __init__(
        self,
        budget: float,
        left: float | None = None,
        report: Callable[[str], None] = lambda stage: None,
    ):
        self.budget, self.started, self.at = budget, time.monotonic(), report
        self._more = 0.0 if left is None else left - budget

    def spent(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def left(self) -> float:
        """Return the seconds of the budget that are left, at least 0."""
        return max(0.0, self.budget + self._more - self.spent())

    def longest(self) -> float:
        """Return the seconds until the end of the grace beyond the budget, at least 0."""
        return max(0.0, self.budget + self._more + GRACE - self.spent())


@final
class Subject:
    """A model with data and a loss, to be copied, run and trained.

    Arguments:
        model: the user's model; it is copied at once and never run.
        batches: the user's batches. At most 64 are taken, in their order; the last quarter is held
            out.
        loss_fn: loss function, as in `diagnose`.
        seconds: time in which batches are drawn.
        unseen: batches that the model was not trained on, which are held out in place of the last
            quarter; None for none.
        register: If True, modules that the model holds and does not list, as in a Python list, are
            registered, with parameters that stay as they are.

    Attributes:
        training: batches that copies are trained on.
        held_out: batches that copies are measured on; the same where there is only one.
        device: device of the first parameter.
        unseen: If True, the model was not trained on the held-out batches.
        registered: expression for each module that was registered, by its name in copies.

    Raises:
        ConfigurationError: no batches; weights that are not finite; a model that cannot be copied.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        loss_fn: Any,
        seconds: float,
        unseen: Iterable[Any] | None = None,
        *,
        register: bool = True,
    ):
        self.loss_fn = as_loss_function(loss_fn)
        self._model = copy_model(model)
        self.registered = register_hidden(self._model) if register else {}
        self.unseen = False
        self.divide(take_batches(batches, seconds))
        if unseen is not None:
            self.unseen = True
            alone = self.held_out[0] is self.training[0]
            self.training = self.training if alone else [*self.training, *self.held_out]
            self.held_out = take_batches(unseen, seconds, "unseen")
        parameter = next(iter(model.parameters()), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device
        if self.device.type == "meta":
            raise ConfigurationError(
                f"weights of {type(model).__name__}",
                got="none: they are on the device meta",
                expected="weights with values",
                fix="Load them, or model.to_empty(device=...) and initialise them.",
            )
        check_finite(self._model)

    def divide(self, batches: list[Any]) -> None:
        """Take other batches: the last quarter is held out.

        Arguments:
            batches: batches in their order; a single one is both trained on and held out.
        """
        held = max(1, round(HELD_OUT * len(batches)))
        self.training = batches[: len(batches) - held] or batches
        self.held_out = batches[len(batches) - held :]

    def copy(self, *, training: bool = False) -> nn.Module:
        """Return a copy of the given model, in evaluation mode unless it is to be trained."""
        return copy_model(self._model).train(training)

    def limit_held_out(self, seconds: float) -> None:
        """Drop held-out batches whose evaluation takes longer than a time.

        Four are kept if they take less than four times as long, else two.

        Arguments:
            seconds: largest duration of an evaluation.

        Raises:
            ConfigurationError: the model or the loss raises.
        """
        model = self.copy()
        self._evaluate(model, 0, 1)  # the first call may compile
        start = time.monotonic()
        for k in range(1, len(self.held_out) + 1):
            self._evaluate(model, k - 1, k)
            taken = time.monotonic() - start
            if (taken > seconds and k >= _FEW) or (taken > 4 * seconds and k >= _FEWEST):
                self.held_out = self.held_out[:k]
                break

    def altered(self, change: Callable[[nn.Module], None]) -> "Subject":
        """Return the same data and loss with a changed copy of the model."""
        other = copy.copy(self)
        other._model = self.copy()
        change(other._model)
        return other

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a copy on a batch, checked to be a scalar tensor."""
        value = self.loss_fn(model, batch)
        if not isinstance(value, Tensor) or value.dim() != 0:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigurationError("loss_fn(model, batch)", got=shape, expected="a scalar tensor")
        return value

    def held_out_losses(self, model: nn.Module) -> list[float]:
        """Return the loss of each held-out batch, in evaluation mode, without gradients.

        Raises:
            ConfigurationError: the model or the loss raises.
            DataError: the loss is not finite, as the data are not.
        """
        return self._evaluate(model, 0, len(self.held_out))

    def _evaluate(self, model: nn.Module, first: int, end: int) -> list[float]:
        batches = self.held_out[first:end]
        with evaluating(model):
            try:
                losses = [float(self.loss(model, batch)) for batch in batches]
            except ThroughtimeError:
                raise
            except Exception as error:
                raise self._does_not_run(error) from error
        for k, (loss, batch) in enumerate(zip(losses, batches, strict=True), first):
            # targets that the loss masks may be NaN
            if not math.isfinite(loss) and not all(map(_is_finite, floating_tensors(batch))):
                raise DataError(
                    f"batch {len(self.training) + k}: got numbers that are not finite, and a loss "
                    f"of {loss}, expected finite data, or a loss that masks the others"
                )
        return losses

    def _does_not_run(self, error: Exception) -> ConfigurationError:
        given = {str(tensor.device) for tensor in batch_tensors(self.held_out[0])}
        fix = "loss_fn(model, batch) raises so outside the doctor too: mend that first."
        if "does not require grad" in str(error):
            fix = (
                "It is called without gradients too: let it return the loss, and leave backward() "
                "and step() to the doctor."
            )
        if given - {str(self.device)}:
            fix = (
                f"The model is on {self.device}, the batches on {', '.join(sorted(given))}: move "
                "them to one device in loss_fn, or before."
            )
        return ConfigurationError(
            "loss_fn(model, batch)",
            got=f"{type(error).__name__}: {error}",
            expected="the loss of the model on its batches",
            fix=fix,
        )


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def as_loss_function(loss_fn: Any) -> Any:
    """Return a function of (model, batch); a loss of torch gets the model's output and the target.

    Arguments:
        loss_fn: callable of (model, batch); or a loss module of torch.nn or a function of
            torch.nn.functional, for batches (*inputs, target): of a model that returns a tuple, the
            first entry is the output.
    """
    of_torch = isinstance(loss_fn, nn.Module) or getattr(loss_fn, "__module__", "") == F.__name__
    if not of_torch:
        if not callable(loss_fn):
            raise ConfigurationError(
                "loss_fn", got=type(loss_fn).__name__, expected="a function of (model, batch)"
            )
        return loss_fn

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise ConfigurationError(
                "batch",
                got=type(batch).__name__,
                expected="(*inputs, target), since loss_fn is one of torch's losses",
                fix="Or pass loss_fn as a function of (model, batch).",
            )
        *inputs, target = batch
        output = model(*inputs)
        return loss_fn(output[0] if isinstance(output, tuple) else output, target)

    return loss


def take_batches(batches: Iterable[Any], seconds: float, name: str = "batches") -> list[Any]:
    """Return the first batches of any iterable, detached and copied, within a time.

    Arguments:
        batches: list, DataLoader, or generator that never ends; a tuple of tensors is one batch.
    """
    if isinstance(batches, tuple) and batches and all(isinstance(b, Tensor) for b in batches):
        batches = [batches]
    if isinstance(batches, Tensor | dict):
        batches = [batches]
    end, taken = time.monotonic() + seconds, []
    try:
        for batch in batches:
            taken.append(map_tensors(lambda tensor: tensor.detach().clone(), batch))
            if len(taken) >= MOST_BATCHES or time.monotonic() > end:
                break
    except Exception as error:
        raise ConfigurationError(
            name,
            got=f"{type(error).__name__}: {error}",
            expected="a list, a DataLoader or an iterator of batches",
        ) from error
    if not taken:
        raise ConfigurationError(
            name,
            got="none: the iterable is empty",
            expected="at least one batch",
            fix="An iterator that was used up gives none the second time.",
        )
    return taken


def map_tensors(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """Apply a function to the tensors of a batch; its structure and other values stay."""

    def apply(leaf: Any) -> Any:
        if isinstance(leaf, PackedSequence):
            return leaf._replace(data=function(leaf.data))
        return function(leaf) if isinstance(leaf, Tensor) else leaf

    return pytree.tree_map(apply, batch, is_leaf=lambda x: isinstance(x, PackedSequence))


def batch_tensors(batch: Any) -> list[Tensor]:
    """List the tensors of a batch, in order, without those of packed sequences."""
    leaves = pytree.tree_leaves(batch, is_leaf=lambda x: isinstance(x, PackedSequence))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def floating_tensors(batch: Any) -> list[Tensor]:
    """List the tensors of a batch, packed ones too, that hold real numbers."""
    leaves = pytree.tree_leaves(batch, is_leaf=lambda x: isinstance(x, PackedSequence))
    tensors = [leaf.data if isinstance(leaf, PackedSequence) else leaf for leaf in leaves]
    return [t for t in tensors if isinstance(t, Tensor) and t.is_floating_point()]


def not_finite(model: nn.Module) -> str:
    """Return the name of the first parameter or buffer that is not finite; "" for none."""
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    return next((name for name, tensor in named if not _is_finite(tensor)), "")


def check_finite(model: nn.Module) -> None:
    """Check that all parameters and buffers are finite.

    Raises:
        ConfigurationError: one is not.
    """
    if name := not_finite(model):
        raise ConfigurationError(
            f"weights of {type(model).__name__}",
            got=f"numbers that are not finite in {name}",
            expected="finite weights",
            fix="The training has diverged. Pass training_step= and optimizer= to find out why; or "
            "the model as it was before; or a fresh one with history=.",
        )


def redraw(model: nn.Module, seed: int) -> None:
    """Draw the weights of a model afresh, so that it has seen none of the batches.

    Modules reset their own parameters where they can. The entries of others are permuted, which
    keeps their distribution.

    Arguments:
        model: model whose parameters are changed in place.
        seed: seed of the draw.
    """
    torch.manual_seed(seed)
    done: set[int] = set()
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            done |= {id(parameter) for parameter in module.parameters(recurse=False)}
    with torch.no_grad():
        for parameter in model.parameters():
            if id(parameter) not in done:
                order = torch.randperm(parameter.numel()).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))


def copy_model(model: nn.Module) -> nn.Module:
    """Return a deep copy; tensors that the model keeps, such as a state, lose their graph.

    Raises:
        ConfigurationError: something in the model cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in pytree.tree_leaves(list(vars(module).values())):
            if not isinstance(tensor, Tensor):
                continue
            if tensor.is_inference():  # made in inference mode, where no gradient can be taken
                of = tensor.detach().clone()
                trained = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(of, tensor.requires_grad) if trained else of
            elif tensor.grad_fn is not None:
                memo[id(tensor)] = tensor.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever the model's own __deepcopy__ raises
        raise ConfigurationError(
            f"copy of {type(model).__name__}",
            got=f"{type(error).__name__}: {error}",
            expected="a model that copy.deepcopy copies, since the doctor works on copies alone",
        ) from error
