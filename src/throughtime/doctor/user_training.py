"""The user's own training, made to run on copies: its step and its optimiser, in any usual form."""

import collections
import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from throughtime.core.errors import ConfigurationError, ThroughtimeError
from throughtime.doctor.subject import Subject, copy_model
from throughtime.foreign.hidden import hidden_tensors
from throughtime.foreign.unchanged import unchanged

TrainingStep: TypeAlias = Callable[[nn.Module, Optimizer, Any], float]
"""Function that trains a copy by one batch, and returns the loss, or 0 where it is not known."""

OptimizerOf: TypeAlias = Callable[[nn.Module], Optimizer]
"""Function that makes an optimiser of a copy's parameters."""

_STEPS = (
    "a function of (model, optimizer, batch) or of (model, batch), or a method of the model of "
    "(batch) or (batch, batch_idx), that returns the loss, {'loss': ...} or None"
)
_OPTIMIZERS = (
    "an optimiser of model.parameters(), a class such as torch.optim.Adam, or a function that "
    "makes one of a model"
)


def optimizer_for(model: nn.Module, optimizer: OptimizerOf | None) -> Optimizer:
    """Return an optimiser for a copy, like the user's; Adam if there is none."""
    if optimizer is None:
        return torch.optim.Adam(model.parameters(), lr=1e-3)
    return optimizer(model)


def as_optimizer(optimizer: Any, model: nn.Module) -> OptimizerOf | None:
    """Return a function that makes an optimiser of a copy's parameters, like the user's.

    Arguments:
        optimizer: an optimiser of the model's parameters; a class of optimisers, or a partial of
            one; a function of a model, or of parameters (by the name of its argument).
        model: the user's model.

    Raises:
        ConfigurationError: it is none of these.
    """
    if optimizer is None:
        return None
    if isinstance(optimizer, Optimizer):
        return _like(optimizer, model)
    if not callable(optimizer):
        raise ConfigurationError("optimizer", got=type(optimizer).__name__, expected=_OPTIMIZERS)
    of_parameters = _takes_parameters(optimizer)
    theirs = {id(parameter) for parameter in model.parameters()}

    def make(copied: nn.Module) -> Optimizer:
        try:
            made = optimizer(copied.parameters() if of_parameters else copied)
        except Exception as error:
            raise ConfigurationError(
                "optimizer", got=f"{type(error).__name__}: {error}", expected=_OPTIMIZERS
            ) from error
        made = _first_optimizer(made)
        if not isinstance(made, Optimizer):
            raise ConfigurationError(
                "optimizer",
                got=f"a function that returns {type(made).__name__}",
                expected=_OPTIMIZERS,
            )
        if any(id(p) in theirs for group in made.param_groups for p in group["params"]):
            raise ConfigurationError(
                "optimizer",
                got="a function whose optimiser holds parameters of the model itself, not of its "
                "argument",
                expected=_OPTIMIZERS,
            )
        return made

    return make


def _takes_parameters(optimizer: Any) -> bool:
    made_by = optimizer.func if isinstance(optimizer, functools.partial) else optimizer
    if isinstance(made_by, type) and issubclass(made_by, Optimizer):
        return True
    names = _argument_names(optimizer, "optimizer", _OPTIMIZERS)
    return bool(names) and names[0].startswith("param")


def _first_optimizer(made: Any) -> Any:
    """Return the first optimiser of what `configure_optimizers` may return."""
    while not isinstance(made, Optimizer):
        if isinstance(made, Mapping) and "optimizer" in made:
            made = made["optimizer"]
        elif isinstance(made, Sequence) and made:
            made = made[0]
        else:
            break
    return made


def _like(optimizer: Optimizer, model: nn.Module) -> OptimizerOf:
    """Return a function that makes optimisers with the same groups and options, as at the start."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if not any(id(parameter) in names for parameter in held):
        named = list(model.named_parameters())
        if [p.shape for p in held] != [p.shape for _, p in named]:
            raise ConfigurationError(
                "optimizer",
                got="one that holds none of the model's parameters",
                expected=_OPTIMIZERS,
                fix="Where it trains the model in training, it was made before the model was.",
            )
        names = {id(p): name for p, (name, _) in zip(held, named, strict=True)}

    def make(copied: nn.Module) -> Optimizer:
        own = dict(copied.named_parameters())
        memo: dict[int, Any] = {id(p): own[names[id(p)]] for p in held if id(p) in names}
        memo[id(optimizer.state)] = collections.defaultdict(dict)  # that of no update
        made = copy.deepcopy(optimizer, memo)
        for group in made.param_groups:
            if "initial_lr" in group:  # a schedule may have brought it near 0
                group["lr"] = group["initial_lr"]
        return made

    return make


def holds_hidden(model: nn.Module, optimizer: Any, maker: OptimizerOf | None) -> bool:
    """Return whether the user's optimiser holds parameters that model.parameters() does not list.

    Arguments:
        model: the user's model.
        optimizer: the optimiser as it was given.
        maker: its maker, of `as_optimizer`.
    """
    hidden = hidden_tensors(model)
    if not hidden or maker is None:
        return False
    if not isinstance(optimizer, Optimizer):
        model = copy_model(model)
        optimizer, hidden = maker(model), hidden_tensors(model)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return any(id(tensor) in held for tensor in hidden.values())


def as_training_step(step: Any, model: nn.Module) -> TrainingStep | None:
    """Return the user's step as a function of a copy, an optimiser and a batch.

    Arguments:
        step: a function of (model, optimizer, batch) or of (model, batch), in any order if named
            so; the name of a method of the model, or such a method, of (batch) or (batch,
            batch_idx); a method of an object that holds the model; a partial with the model as its
            first argument. Where it takes no optimiser, and returns a loss that it has not
            differentiated, the gradient is taken and a step made here.
        model: the user's model.

    Raises:
        ConfigurationError: it is none of these.
    """
    if step is None:
        return None
    while isinstance(step, functools.partial) and step.args[:1] == (model,) and not step.keywords:
        step = step.func
    given: Any = step
    owner, bound = getattr(given, "__self__", None), True
    name = given if isinstance(given, str) else given.__name__ if owner is model else ""
    if name:
        method = getattr(model, name, None)
        if not callable(method):
            raise ConfigurationError(
                "training_step", got=f"{name!r}, which is no method of the model", expected=_STEPS
            )
        function: Any = method

        def bind(copied: nn.Module, optimizer: Optimizer) -> Any:
            del optimizer
            return getattr(copied, name)

    elif not callable(given):
        raise ConfigurationError("training_step", got=type(given).__name__, expected=_STEPS)
    elif any(value is model for value in getattr(owner, "__dict__", {}).values()):
        function = given

        def bind(copied: nn.Module, optimizer: Optimizer) -> Any:
            other = copy.copy(owner)
            for attribute, value in vars(owner).items():
                if value is model:
                    vars(other)[attribute] = copied
                elif isinstance(value, Optimizer):
                    vars(other)[attribute] = optimizer
            return getattr(other, given.__name__)

    else:
        function, bound = given, False

        def bind(copied: nn.Module, optimizer: Optimizer) -> Any:
            del copied, optimizer
            return given

    roles = _roles(function, bound=bound)

    def run(copied: nn.Module, optimizer: Optimizer, batch: Any) -> float:
        values = {"model": copied, "optimizer": optimizer, "batch": batch, "number": 0}
        before = _marks(copied)
        result = bind(copied, optimizer)(*(values[role] for role in roles))
        loss = result["loss"] if isinstance(result, Mapping) and "loss" in result else result
        if not isinstance(loss, Tensor):
            return float(loss) if isinstance(loss, float | int) else 0.0
        if "optimizer" not in roles and loss.requires_grad and _marks(copied) == before:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach()) if loss.numel() == 1 else 0.0

    return run


def as_training(
    model: nn.Module, step: Any, optimizer: Any
) -> tuple[TrainingStep | None, OptimizerOf | None]:
    """Return the user's step and optimiser as functions of a copy.

    Arguments:
        model: the user's model.
        step: the user's step, as in `as_training_step`.
        optimizer: the user's optimiser, as in `as_optimizer`; if None, it may come from
            `configure_optimizers` of the model whose method the step is, or from the object that
            the step is a method of.

    Raises:
        ConfigurationError: one is of no known form.
    """
    owner = model if isinstance(step, str) else getattr(step, "__self__", None)
    if optimizer is None and owner is model:
        configure = getattr(model, "configure_optimizers", None)
        if callable(configure):
            optimizer = _configured
    elif optimizer is None and owner is not None:
        found = [o for o in getattr(owner, "__dict__", {}).values() if isinstance(o, Optimizer)]
        optimizer = found[0] if found else None
    return as_training_step(step, model), as_optimizer(optimizer, model)


def _configured(model: Any) -> Any:
    return model.configure_optimizers()


def _roles(function: Any, *, bound: bool) -> list[str]:
    """Return the role of each argument of a step, by its name or its place."""
    names = _argument_names(function, "training_step", _STEPS)
    roles = [_role(name) for name in names]
    usual = ["batch", "number"] if bound else ["model", "optimizer", "batch"]
    open_ = [role for role in usual if role not in roles]
    missing = roles.count("")
    if not bound and missing < len(open_) and "optimizer" in open_:
        open_.remove("optimizer")
    for k, role in enumerate(roles):
        if not role and open_:
            roles[k] = open_.pop(0)
    needed = {"batch"} if bound else {"model", "batch"}
    if "" in roles or not needed <= set(roles) or len(set(roles)) < len(roles):
        raise ConfigurationError(
            "training_step", got=f"a function of ({', '.join(names)})", expected=_STEPS
        )
    return roles


def _role(name: str) -> str:
    name = name.lower().strip("_")
    if name.startswith("opt"):
        return "optimizer"
    if name in ("model", "net", "network", "module"):
        return "model"
    if name == "batch":
        return "batch"
    return "number" if name.endswith(("idx", "index")) else ""


def _argument_names(function: Any, what: str, expected: str) -> list[str]:
    """Return the names of the arguments that a function needs, and of an index of the batch."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            what, got="a function without a signature", expected=expected
        ) from error
    return [
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and (p.default is p.empty or _role(p.name) == "optimizer")
    ]


def _marks(model: nn.Module) -> list[Any]:
    """Return what changes when gradients or parameters are written."""
    return [
        (p._version, id(p.grad), None if p.grad is None else p.grad._version)
        for p in model.parameters()
    ]


def check_runs(
    subject: Subject, model: nn.Module, step: TrainingStep | None, optimizer: OptimizerOf | None
) -> None:
    """Run the user's own step once on a copy.

    Arguments:
        subject: copies of the model, and its data.
        model: the user's model, which must not change.
        step: the user's step; None for none.
        optimizer: maker of the user's optimiser; None for none.

    Raises:
        ConfigurationError: it raises, or it trains the user's model in place of the copy.
    """
    copied = subject.copy(training=True)
    made = optimizer_for(copied, optimizer)
    if step is None:
        return
    with unchanged(model):
        before = _marks(model)
        try:
            step(copied, made, subject.training[0])
        except ThroughtimeError:
            raise
        except Exception as error:
            raise ConfigurationError(
                "training_step", got=f"{type(error).__name__}: {error}", expected=_STEPS
            ) from error
        touched = _marks(model) != before
    if touched:
        raise ConfigurationError(
            "training_step",
            got="one that trains the given model itself",
            expected="one that trains the model and the optimiser that it is given, since the "
            "doctor works on copies",
            fix="Write def training_step(model, optimizer, batch), and use these three alone.",
        )
