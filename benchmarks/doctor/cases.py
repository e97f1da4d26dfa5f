"""The cases: cause x fault x task x network x seed, and what the doctor is given of one."""

import dataclasses
import functools
from collections.abc import Callable
from itertools import islice
from typing import Any

from torch import Tensor, nn

from benchmarks.doctor.faults import FAULTS, Fault
from benchmarks.doctor.models import Design
from benchmarks.doctor.recipes import Recipe, batches, loss_of, step_of
from benchmarks.doctor.tasks import TASKS
from throughtime.doctor import History

BATCHES = 64
SEEDS = 4
SCARCE = ("TIME_BATCH_SWAPPED", "PADDING_READ", "VANISHING", "EXPLODING", "DEAD_UNITS")
"""Causes that fit few networks: they get twice the seeds."""
FAMILIES = ("development", "held-out-1", "held-out-2", "held-out-3")
"""A held-out family is asked about once; then it is one that thresholds may be set on. Of the third
the cases of SATURATED alone have been asked about."""


@dataclasses.dataclass(frozen=True, eq=False)
class Planted:
    """A model that its user brings to the doctor.

    Attributes:
        name: of the case.
        cause: what was planted; "HEALTHY" or "NO_LONG_DEPENDENCY" where nothing was.
        acceptable: verdicts that count as right.
        model: trained, with its fault.
        batches: a list, as the user's loader gives them; none was trained on.
        loss_fn: of the model and a batch.
        options: further arguments for the doctor: some of lag, training_step, optimizer, history.
        losses: of the training that the model has had, an update each.
    """

    name: str
    cause: str
    acceptable: frozenset[str]
    model: nn.Module
    batches: list[Any]
    loss_fn: Callable[[nn.Module, Any], Tensor]
    options: dict[str, Any]
    losses: list[float]


@dataclasses.dataclass(frozen=True)
class Case:
    """What is to be planted, before anything is trained.

    Attributes:
        healthy: the recipe without the fault.
        fault: None where nothing is planted.
    """

    name: str
    family: str
    cause: str
    healthy: Recipe
    fault: Fault | None
    seed: int

    @property
    def recipe(self) -> Recipe:
        """What the user did, the fault included."""
        return self.healthy if self.fault is None else self.fault.plant(self.healthy)

    @property
    def acceptable(self) -> frozenset[str]:
        """Verdicts that count as right."""
        return frozenset({self.cause}) if self.fault is None else self.fault.acceptable


def recipes(family: str) -> dict[str, Recipe]:
    """The healthy recipes of a family by "task/network"."""
    if family == "development":
        from benchmarks.doctor.development import RECIPES
    elif family == "held-out-1":
        from benchmarks.doctor.first_held_out import RECIPES
    elif family == "held-out-2":
        from benchmarks.doctor.second_held_out import RECIPES
    else:
        from benchmarks.doctor.third_held_out import RECIPES
    return RECIPES


@functools.cache
def cases(family: str) -> dict[str, Case]:
    """All cases of a family by name, the seeds innermost."""
    found = {}
    for key, recipe in recipes(family).items():
        task = TASKS[recipe.task]
        design: Design = recipe.design
        faults: list[Fault | None] = [None]
        if task.long:
            faults += [f for f in FAULTS if family.startswith(f.family) and f.fits(task, design)]
        for fault in faults:
            cause = "HEALTHY" if task.long else "NO_LONG_DEPENDENCY"
            label = cause
            if fault is not None:
                cause, label = fault.cause, f"{fault.cause}/{fault.name}"
            for seed in range(3 * SEEDS if fault is None else SEEDS * (1 + (cause in SCARCE))):
                name = f"{label}/{key}/{seed}"
                found[name] = Case(name, family, cause, recipe, fault, seed)
    return found


def names(family: str) -> list[str]:
    """The names of all cases that can be defined; `checking.verified` tells which are right."""
    return list(cases(family))


def case_of(name: str) -> Case:
    """The case of a name, in whichever family."""
    for family in FAMILIES:
        if name in cases(family):
            return cases(family)[name]
    raise KeyError(name)


def build(name: str) -> Planted:
    """Train a case, or read it from the cache, and give what the doctor sees.

    What the doctor is told depends on the seed, not on the cause: the lag for odd seeds (but where
    the answer pools all steps, and where there is no long dependency), the training step with its
    optimiser for seeds 2 and 3 of each four, and always where the fault lies in the training; the
    losses of the training for seed 3.
    """
    from benchmarks.doctor.checking import trained

    case = case_of(name)
    recipe = case.recipe
    model, optimizer, losses = trained(recipe, case.seed)
    options: dict[str, Any] = {}
    pooled = recipe.design.bidirectional or recipe.design.read in ("mean", "max", "attention")
    if case.seed % 2 and TASKS[recipe.task].long and not pooled:
        options["lag"] = TASKS[recipe.task].lag
    if case.seed % 4 >= 2 or (case.fault is not None and case.fault.needs_step):
        options["training_step"] = step_of(recipe)
        options["optimizer"] = optimizer
    if case.seed % 4 == 3:
        options["history"] = History(losses=losses)
    return Planted(
        name,
        case.cause,
        case.acceptable,
        model,
        list(islice(batches(recipe, 500_000 + case.seed), BATCHES)),
        loss_of(recipe),
        options,
        losses,
    )
