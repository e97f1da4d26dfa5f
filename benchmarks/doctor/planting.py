"""The model, batches and options that the doctor gets for one case."""

import dataclasses
from collections.abc import Callable
from itertools import islice
from typing import Any

from torch import Tensor, nn

from benchmarks.doctor.cases import case_of
from benchmarks.doctor.checking import trained
from benchmarks.doctor.recipes import batches, loss_of, step_of
from benchmarks.doctor.tasks import TASKS
from throughtime.doctor import History

BATCHES = 64


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


def build(name: str) -> Planted:
    """Train a case, or read it from the cache, and give what the doctor sees.

    What the doctor is told depends on the seed, not on the cause: the lag for odd seeds (but where
    the answer pools all steps, and where there is no long dependency), the training step with its
    optimiser for seeds 2 and 3 of each four, and always where the fault lies in the training; the
    losses of the training for seed 3.
    """
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
