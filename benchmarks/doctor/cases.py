"""The cases: cause x fault x task x network x seed."""

import dataclasses
import functools

from benchmarks.doctor.faults import FAULTS, Fault
from benchmarks.doctor.models import Design
from benchmarks.doctor.recipes import Recipe
from benchmarks.doctor.tasks import TASKS

SEEDS = 4
SCARCE = ("TIME_BATCH_SWAPPED", "PADDING_READ", "VANISHING", "EXPLODING", "DEAD_UNITS")
"""Causes that fit few networks: they get twice the seeds."""
FAMILIES = ("development", "held-out-1", "held-out-2", "held-out-3")
"""A held-out family is asked about once; then it is one that thresholds may be set on. Of the third
the cases of SATURATED alone have been asked about."""


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
