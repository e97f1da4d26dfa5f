"""Exact checks of the user's step and optimiser: what they train, and that gradients are zeroed."""

import dataclasses
import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.doctor.intervals import exactly
from throughtime.doctor.subject import Subject
from throughtime.doctor.user_training import OptimizerOf, TrainingStep, optimizer_for
from throughtime.foreign.hidden import hidden_tensors, made_in_forward
from throughtime.results.diagnosis import Cause, Finding

_CALLS, _MOST_CALLS = 12, 64  # of the step; the most where gradients of many batches are summed
_SUMMED = 3  # changed weights without a zeroed gradient: more is no accumulation
FALLEN = 0.01  # of the learning rate: less is left where it falls to nothing
_SHOWN = 4  # names in a sentence


@dataclasses.dataclass(frozen=True)
class Steps:
    """Calls of the user's step on a copy.

    Attributes:
        calls: number of calls.
        changed: names of the parameters that changed.
        updates: number of updates: calls of the optimiser, or calls in which a parameter changed.
        unzeroed: names of the parameters most of whose updates took gradients of earlier updates.
        cleared: If True, every update found no gradient, although some had been added before it.
        sums: largest norm of a gradient of all parameters, relative to that of its own batch.
        reached: names of the parameters that got a gradient other than 0.
        rates: largest learning rate of a group, before the first call and after the last.
    """

    calls: int
    changed: frozenset[str]
    updates: int
    unzeroed: frozenset[str]
    cleared: bool
    sums: float
    reached: frozenset[str]
    rates: tuple[float, float]


def run_steps(
    subject: Subject, step: TrainingStep, optimizer: OptimizerOf | None, seconds: float
) -> Steps:
    """Run the user's step a dozen times on a copy, and watch gradients and parameters.

    As gradients of several batches may be summed for one update, it is run up to 64 times, until
    there are five updates or a gradient starts from 0 after one.

    Arguments:
        seconds: time after which no call is made, but for the first four.
    """
    model = subject.copy(training=True)
    made = optimizer_for(model, optimizer)
    gradients = _Gradients(p for p in model.parameters() if p.requires_grad)
    hooks = [
        made.register_step_pre_hook(lambda *_: gradients.before_update()),
        made.register_step_post_hook(lambda *_: gradients.end_update()),
    ]
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    end, calls, rate = time.monotonic() + seconds, 0, rate_of(made)
    try:
        while calls < _CALLS or (gradients.open and calls < _MOST_CALLS):
            if calls >= _SUMMED + 1 and time.monotonic() > end:
                break
            before = gradients.updates
            step(model, made, subject.training[calls % len(subject.training)])
            calls += 1
            if gradients.updates == before and gradients.moved():  # without an optimiser
                gradients.end_update()
    finally:
        gradients.remove()
        for hook in hooks:
            hook.remove()
    changed = frozenset(n for n, p in model.named_parameters() if not torch.equal(p, start[n]))
    names = {id(p): name for name, p in model.named_parameters()}
    unzeroed, reached = (
        frozenset(names[id(gradients.parameters[k])] for k in some)
        for some in (gradients.unzeroed(), gradients.reached)
    )
    return Steps(
        calls,
        changed,
        gradients.updates,
        unzeroed,
        0 < gradients.updates == gradients.cleared,
        gradients.sums,
        reached,
        (rate, rate_of(made)),
    )


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    """Return the largest learning rate of an optimiser's groups."""
    return max((float(g["lr"]) for g in optimizer.param_groups if "lr" in g), default=0.0)


class _Gradients:
    """Watches where gradients are added, and to what, between the updates.

    Attributes:
        parameters: parameters that are watched.
        updates: number of updates so far.
        cleared: number of those before which gradients were added, and then cleared.
        sums: largest norm of the gradients that are summed up to an update, relative to that of the
            added ones.
        reached: numbers of the parameters that got a gradient other than 0.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self.parameters = list(parameters)
        self.handles: list[Any] = []
        self.empty: dict[int, bool] = {}  # before the gradient that is being added
        self.fresh: set[int] = set()  # parameters whose gradient started from 0 since the update
        self.added: set[int] = set()  # parameters that got a gradient since the update
        self.gone = self.restarted = False
        self.counts = [[0, 0] for _ in self.parameters]  # updates from a fresh sum, from an old one
        self.updated = [False] * len(self.parameters)
        self.values = [p.detach().clone() for p in self.parameters]
        self.own, self.sum = 0.0, 0.0
        self.sums, self.updates, self.cleared = 1.0, 0, 0
        self.reached: set[int] = set()
        for k, parameter in enumerate(self.parameters):
            self.handles += [
                parameter.register_hook(lambda gradient, k=k: self._before(k, gradient)),
                parameter.register_post_accumulate_grad_hook(lambda _, k=k: self._after(k)),
            ]

    def _before(self, k: int, gradient: Tensor) -> None:
        old = self.parameters[k].grad
        self.empty[k] = old is None or not bool(old.any())
        squared = float(gradient.detach().double().square().sum())
        self.own += squared
        if squared > 0:
            self.reached.add(k)
            self.added.add(k)
            self.restarted |= self.updated[k] and self.empty[k]

    def _after(self, k: int) -> None:
        gradient = self.parameters[k].grad
        if self.empty[k]:
            self.fresh.add(k)
        if gradient is not None:
            self.sum += float(gradient.detach().double().square().sum())

    @property
    def open(self) -> bool:
        """True if it is not known yet whether gradients are zeroed after an update."""
        return self.updates < _SUMMED + 2 and not self.restarted

    def moved(self) -> list[int]:
        """List the numbers of the parameters that changed since the last update."""
        pairs = zip(self.parameters, self.values, strict=True)
        return [k for k, (now, before) in enumerate(pairs) if not torch.equal(now, before)]

    def before_update(self) -> None:
        """Look whether the gradients that were added are there."""
        gradients = [self.parameters[k].grad for k in self.added]
        self.gone = bool(gradients) and not any(g is not None and bool(g.any()) for g in gradients)

    def end_update(self) -> None:
        """Count an update. A start from 0 counts where an earlier one changed the parameter."""
        for k in self.moved():
            if self.updated[k] and k in self.added:
                self.counts[k][k not in self.fresh] += 1
            self.updated[k] = True
            self.values[k] = self.parameters[k].detach().clone()
        if self.own > 0:
            self.sums = max(self.sums, math.sqrt(self.sum / self.own))
        self.updates += 1
        self.cleared += self.gone
        self.own = self.sum = 0.0
        self.gone = False
        self.fresh.clear()
        self.added.clear()

    def unzeroed(self) -> list[int]:
        """List the numbers of the parameters most of whose updates took an older gradient too."""
        return [k for k, (fresh, old) in enumerate(self.counts) if old >= _SUMMED and old > fresh]

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self.handles:
            handle.remove()


def check_zeroed(steps: Steps) -> Finding | None:
    """Check that the gradients of earlier updates are not added to those of the next.

    Arguments:
        steps: calls of the user's step. Gradients that are summed over a few batches, and zeroed
            after the update, are right.
    """
    if not steps.unzeroed:
        return None
    of = ""
    if steps.unzeroed != steps.changed:
        of = f" of {listed(sorted(steps.unzeroed))}"
    return Finding(
        cause=Cause.NOT_ZEROED,
        severity="fault",
        certainty="proved",
        statement=f"training_step adds each gradient{of} to those of earlier updates: in "
        f"{steps.calls} calls with {steps.updates} updates most took a gradient that had not been "
        f"zeroed since the update before, up to {steps.sums:.1f} times that of its own batch.",
        effect=exactly(steps.sums),
        effect_name="largest gradient, relative to that of its batch",
        threshold=1.0,
        measured_on=f"{steps.calls} calls of training_step on a copy",
        remedy="Call optimizer.zero_grad() once for each optimizer.step(): after it, or before the "
        "first loss.backward() of the next; of an optimiser that holds all parameters.",
    )


def check_rate(steps: Steps) -> Finding | None:
    """Check that the learning rate does not fall to nothing within a few calls.

    Arguments:
        steps: calls of the user's step.
    """
    first, last = steps.rates
    if not last < FALLEN * first:
        return None
    return Finding(
        cause=Cause.STEP_SIZE,
        severity="fault",
        certainty="proved",
        statement=f"training_step lowers the learning rate from {first:.3g} to {last:.3g} in "
        f"{steps.calls} calls.",
        effect=exactly(last / first),
        effect_name="part of the learning rate that is left",
        threshold=FALLEN,
        measured_on=f"{steps.calls} calls of training_step on a copy",
        remedy="Lower the learning rate once an epoch, not in each step, or more slowly.",
    )


def check_held(
    subject: Subject, layer: str, optimizer: OptimizerOf | None, steps: Steps | None
) -> Finding | None:
    """Check that training changes every parameter of the layer that has a gradient.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        optimizer: maker of the user's optimiser; None for none.
        steps: calls of the user's step; None for none.
    """
    model = subject.copy(training=True)
    named = dict(model.named_parameters())
    inside = {n for n in named if n.startswith(f"{layer}.") or not layer}
    hidden = tuple(f"{name}." for name in subject.registered)  # see check_registered
    frozen = sorted(n for n in inside if not (named[n].requires_grad or n.startswith(hidden)))
    if frozen:
        return _not_trained(
            f"{listed(frozen)} of layer {layer!r} require no gradient: they are frozen.",
            len(inside) - len(frozen),
            len(inside),
            "Call requires_grad_(True) on them before the optimiser is made.",
            severity="warning",
        )
    if optimizer is None and steps is None:
        return None
    loss = subject.loss(model, subject.training[0])
    trained = {name: p for name, p in named.items() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    moving = {n for n, g in zip(trained, gradients, strict=True) if g is not None and bool(g.any())}
    groups = optimizer_for(model, optimizer).param_groups
    of_optimizer = {id(p) for group in groups for p in group["params"]}
    held = {name for name, p in named.items() if id(p) in of_optimizer}
    changed = set[str]() if steps is None else steps.changed
    if steps is not None and steps.cleared and moving & held:
        return _not_trained(
            f"training_step clears the gradients before each of {steps.updates} updates: none is "
            "left when optimizer.step() is called.",
            0,
            len(moving),
            "Call optimizer.zero_grad() before loss.backward(), and optimizer.step() after it.",
            severity="fault",
        )
    if steps is not None and not changed and moving & held:
        rates = ", ".join(f"{group['lr']:g}" for group in groups if "lr" in group)
        return _not_trained(
            f"training_step changes no parameter of the model in {steps.calls} calls.",
            0,
            len(moving),
            "Call loss.backward() and optimizer.step() in it, with the model and the optimiser "
            f"that it is given; the learning rate is {rates}.",
            severity="fault",
        )
    missing = moving - held
    unmoved = set[str]()
    if steps is not None:  # what gets a gradient may not move by rounding
        unmoved = moving - steps.changed - steps.reached
    for names, what, remedy in (
        (
            missing,
            "The optimiser does not hold",
            "Make the optimiser of all parameters, after the model is complete: "
            "torch.optim.Adam(model.parameters()).",
        ),
        (
            unmoved - missing,
            "In training_step no gradient reaches, although the loss has one,",
            "Look for what keeps their gradient from the optimiser in training_step: a no_grad(), "
            "a detach(), a zero_grad() after backward().",
        ),
    ):
        found = sorted(names & inside) or sorted(names)
        if found and not set(found) & changed:
            return _not_trained(
                f"{what} {listed(found)}: {'they stay' if len(found) > 1 else 'it stays'} as "
                f"{'they are' if len(found) > 1 else 'it is'}.",
                len(moving) - len(names),
                len(moving),
                remedy,
                severity="fault" if names & inside else "warning",
            )
    return None


def listed(names: list[str]) -> str:
    """Return names in a sentence; of many, the first few and their number."""
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: _SHOWN - 1])} and {len(names) - _SHOWN + 1} more parameters"


def _not_trained(statement: str, trained: int, of: int, remedy: str, *, severity: Any) -> Finding:
    return Finding(
        cause=Cause.NOT_TRAINED,
        severity=severity,
        certainty="proved",
        statement=statement,
        effect=exactly(float(trained)),
        effect_name=f"parameters that are trained, of {of} that have a gradient",
        threshold=float(of),
        measured_on="a copy, with the training that was passed",
        remedy=remedy,
    )


def check_registered(subject: Subject) -> Finding | None:
    """Check that the loss reaches no parameters that model.parameters() does not list.

    Arguments:
        subject: model, data and loss.
    """
    made = check_made(subject)
    if made is not None:
        return made
    model = subject.copy(training=True)
    hidden: dict[str, torch.Tensor] = dict(hidden_tensors(model))
    for name, path in subject.registered.items():
        named = model.get_submodule(name).named_parameters()
        hidden |= {f"{path}.{n}": p.requires_grad_() for n, p in named}
    if not hidden:
        return None
    loss = subject.loss(model, subject.training[0])
    if not loss.requires_grad:
        return None
    gradients = torch.autograd.grad(loss, list(hidden.values()), allow_unused=True)
    moving = [n for n, g in zip(hidden, gradients, strict=True) if g is not None and bool(g.any())]
    if not moving:
        return None
    held = moving[0].partition("[")[0]
    return _not_trained(
        f"model.parameters() does not list {listed(moving)}, which the loss reaches: torch "
        "registers attributes that are an nn.Module or nn.Parameter, and nothing in a list or "
        "dict. An optimiser of model.parameters() does not train them.",
        0,
        len(moving),
        f"Make {held} an nn.ModuleList, nn.ModuleDict, nn.ParameterList or nn.Parameter of the "
        "same.",
        severity="fault",
    )


def check_made(subject: Subject) -> Finding | None:
    """Check that no call of the model makes modules anew, whose weights nothing trains.

    Arguments:
        subject: model, data and loss.
    """
    model, batch = subject.copy(), subject.training[0]
    loss, made = made_in_forward(model, lambda: subject.loss(model, batch))
    if not made or not loss.requires_grad:
        return None
    named = {
        f"{type(module).__name__}.{name}": p
        for module in made
        for name, p in module.named_parameters(recurse=False)
        if p.requires_grad
    }
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    moving = [n for n, g in zip(named, gradients, strict=True) if g is not None and bool(g.any())]
    if not moving:
        return None
    kind = moving[0].partition(".")[0]
    return _not_trained(
        f"A {kind} is made within forward: each call draws its weights anew ({listed(moving)}), "
        "model.parameters() does not list them, and no optimiser trains them.",
        0,
        len(moving),
        f"Make the {kind} once, in __init__, as an attribute of the model, and call that in "
        "forward.",
        severity="fault",
    )


def check_steps(
    subject: Subject,
    layer: str,
    step: TrainingStep | None,
    optimizer: OptimizerOf | None,
    seconds: float,
) -> Finding | None:
    """Check the user's step and optimiser exactly: what they train, and that gradients are zeroed.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        step: the user's step; None for none.
        optimizer: maker of the user's optimiser; None for none.
        seconds: time after which the step is not called again, but for the first four.
    """
    try:
        steps = None if step is None else run_steps(subject, step, optimizer, seconds)
    except Exception:  # noqa: BLE001 what a fault makes the step raise, as a kept graph
        return None
    held = check_held(subject, layer, optimizer, steps)
    zeroed = None if steps is None else check_zeroed(steps)
    if held is not None and (held.severity == "fault" or zeroed is None):
        return held
    return zeroed or (None if steps is None else check_rate(steps))
