"""The faults: how each is planted in a healthy recipe, where it fits, and what it may be called.

Three causes were named apart after the held-out families had been measured (samples mixed, inputs
not scaled, step size). The faults that they describe accept them beside the names of then.
"""

import dataclasses
import math
from collections.abc import Callable

import torch

from benchmarks.doctor.models import Design, Network
from benchmarks.doctor.recipes import BATCH, Recipe, damage
from benchmarks.doctor.tasks import TASKS, Task

Fits = Callable[[Task, Design], bool]


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault and its right names.

    Attributes:
        cause: its name in `throughtime.doctor.Cause`.
        name: of this way of making it.
        plant: healthy recipe -> faulty recipe. To undo it is to use the healthy recipe.
        fits: whether it can be made in a task with a design.
        acceptable: verdicts that count as right; fixed before any doctor has seen a case.
        needs_step: whether it lies in the training step, which the doctor then has to see.
        family: which ones it belongs to: those whose names begin so.
    """

    cause: str
    name: str
    plant: Callable[[Recipe], Recipe]
    fits: Fits
    acceptable: frozenset[str]
    needs_step: bool = False
    family: str = ""


FAULTS: list[Fault] = []


def fault(
    cause: str,
    name: str,
    plant: Callable[[Recipe], Recipe],
    fits: Fits,
    *also: str,
    needs_step: bool = False,
    family: str = "",
) -> None:
    """Enter a fault; `also` are further acceptable names."""
    acceptable = frozenset({cause, *also})
    FAULTS.append(Fault(cause, name, plant, fits, acceptable, needs_step, family))


def wrongly(**mistakes: object) -> Callable[[Recipe], Recipe]:
    """The network is written with these mistakes."""
    return lambda recipe: dataclasses.replace(
        recipe, mistakes=dataclasses.replace(recipe.mistakes, **mistakes)
    )


def changed(**fields: object) -> Callable[[Recipe], Recipe]:
    """The recipe has these fields instead."""
    return lambda recipe: dataclasses.replace(recipe, **fields)


def from_default(recipe: Recipe) -> Recipe:
    """The recurrent layer starts from torch's own initial weights."""
    return dataclasses.replace(recipe, design=dataclasses.replace(recipe.design, initial="default"))


def gated(design: Design) -> bool:
    """Whether the cell has gates."""
    return design.cell != "rnn"


def relu(design: Design) -> bool:
    """Whether the units are rectified."""
    return design.cell == "rnn" and design.activation == "relu"


def one_way(design: Design) -> bool:
    """Whether all that comes from the past comes through one state."""
    return not design.bidirectional


def layer_weights(model: Network, part: str) -> list[torch.Tensor]:
    """The recurrent layer's weights whose name contains a part."""
    return [weight for name, weight in model.rnn.named_parameters() if part in name]


@damage("small recurrent weights")
def _small(model: Network) -> None:
    for weight in layer_weights(model, "weight_hh"):
        weight.mul_(0.1)


@damage("contracting recurrent weights")
def _contracting(model: Network) -> None:
    for weight in layer_weights(model, "weight_hh"):
        weight.mul_(0.3)


@damage("large recurrent weights")
def _large(model: Network) -> None:
    for weight in layer_weights(model, "weight_hh"):
        weight.mul_(1.5 if relu(model.design) else 3.0)


@damage("large input weights")
def _heavy(model: Network) -> None:
    for weight in layer_weights(model, "weight_ih"):
        weight.mul_(100.0)


@damage("shut keeping gate")
def _shut(model: Network) -> None:
    hidden = model.design.hidden
    for weight in layer_weights(model, "bias_hh"):
        weight[hidden : 2 * hidden] = -6.0


@damage("negative biases")
def _negative(model: Network) -> None:
    for weight in layer_weights(model, "bias_hh"):
        weight.fill_(-5.0)


@damage("negative biases of most units")
def _mostly_negative(model: Network) -> None:
    for weight in layer_weights(model, "bias_hh"):
        weight[: round(0.9 * len(weight))] = -5.0


def _swap_runs(task: Task, design: Design) -> bool:
    # A final state has the wrong width when time and batch differ: torch then raises by itself.
    square = task.length == BATCH
    return not task.padded and not design.loop and (square or design.read != "final")


fault("TIME_BATCH_SWAPPED", "batch-first", wrongly(swapped=True), _swap_runs)
# A reshape moves both the order of time and the samples: the axes are confused, and samples leak.
fault(
    "STATE_LEAK",
    "reshape",
    wrongly(reshaped=True),
    lambda t, d: (
        d.layer_batch_first != d.data_batch_first and t.answer != "steps" and t.length != BATCH
    ),
    "TIME_BATCH_SWAPPED",
    "SAMPLES_MIXED",
)
fault(
    "STATE_LEAK",
    "kept-state",
    wrongly(keeps_state=True),
    lambda t, d: one_way(d) and not d.packed,
)
fault(
    "STATE_LEAK",
    "view",
    wrongly(views_state=True),
    lambda t, d: d.read == "final" and d.layers * (1 + d.bidirectional) > 1,
    "SAMPLES_MIXED",
)
fault(
    "STATE_LEAK",
    "softmax-axis",
    wrongly(softmax_over_batch=True),
    lambda t, d: d.head == "log_softmax" and t.answer == "class",
    "SAMPLES_MIXED",
)
fault(
    "PADDING_READ",
    "last-step",
    wrongly(reads_padding=True),
    lambda t, d: t.padded and not d.packed and d.read == "last",
)
fault(
    "PADDING_READ",
    "not-packed",
    lambda r: dataclasses.replace(r, design=dataclasses.replace(r.design, packed=False)),
    lambda t, d: t.padded and d.packed and d.read == "final" and one_way(d),
)
fault(
    "GRADIENT_CUT",
    "detach",
    lambda r: wrongly(detach_every=max(1, min(8, TASKS[r.task].lag // 3)))(r),
    lambda t, d: one_way(d) and not d.packed,
)
fault(
    "GRADIENT_CUT",
    "detach-once",
    lambda r: wrongly(detach_every=math.ceil(TASKS[r.task].length / 2))(r),
    lambda t, d: one_way(d) and not d.packed and t.answer != "steps",
    family="held-out",
)
fault(
    "GRADIENT_CUT",
    "no-grad",
    wrongly(no_grad_share=0.6),
    lambda t, d: one_way(d) and not d.packed and t.answer == "class",
)
fault(
    "GRADIENT_CUT",
    "windows",
    lambda r: changed(window=max(2, min(8, TASKS[r.task].lag // 3)))(r),
    lambda t, d: d.stateful,
    needs_step=True,
)
# A plain network's recurrent Jacobian carries the state forwards and the gradient backwards: where
# it contracts, both names are true. With gates the name is that of the gate that lets go.
fault(
    "VANISHING",
    "small-weights",
    changed(damage="small recurrent weights"),
    lambda t, d: not gated(d) and one_way(d),
    "FORGETTING",
)
fault(
    "VANISHING",
    "contracting-weights",
    changed(damage="contracting recurrent weights"),
    lambda t, d: not gated(d) and one_way(d),
    "FORGETTING",
    family="held-out",
)
fault(
    "VANISHING",
    "default-weights",
    from_default,
    lambda t, d: not gated(d) and one_way(d) and d.initial != "default" and t.lag > 15,
    "FORGETTING",
)
fault(
    "EXPLODING",
    "large-weights",
    changed(damage="large recurrent weights", clip=0.0),
    lambda t, d: not gated(d) and one_way(d),
)
fault(
    "EXPLODING",
    "plain-descent",
    changed(damage="large recurrent weights", clip=0.0, optimizer="sgd", rate=0.1),
    lambda t, d: relu(d),
)
fault(
    "FORGETTING",
    "shut-gate",
    changed(damage="shut keeping gate"),
    lambda t, d: gated(d) and one_way(d),
)
# Nobody shut the gates: half open, as torch leaves them, they halve the past and its gradient at
# each step, so both names are true.
fault(
    "FORGETTING",
    "default-gates",
    from_default,
    lambda t, d: gated(d) and one_way(d) and d.initial == "remember" and t.lag > 25,
    "VANISHING",
)
fault(
    "FORGETTING",
    "zeroed",
    lambda r: wrongly(zero_every=max(2, min(8, TASKS[r.task].lag // 2)))(r),
    lambda t, d: one_way(d) and not d.packed,
)
fault(
    "SATURATED",
    "unscaled",
    changed(scale=100.0),
    lambda t, d: not t.tokens and not relu(d) and not d.before and not t.padded,
    "UNSCALED",
)
fault(
    "SATURATED",
    "uncentred",
    changed(offset=100.0),
    lambda t, d: not t.tokens and not relu(d) and not d.before and not t.padded,
    "UNSCALED",
    family="held-out",
)
fault(
    "SATURATED",
    "large-input-weights",
    changed(damage="large input weights"),
    lambda t, d: not relu(d) and not t.padded,
)
fault("DEAD_UNITS", "negative-biases", changed(damage="negative biases"), lambda t, d: relu(d))
fault(
    "DEAD_UNITS",
    "most-negative",
    changed(damage="negative biases of most units"),
    lambda t, d: relu(d),
)
fault(
    "UNDERTRAINED",
    "few-updates",
    lambda r: changed(updates=max(4, math.ceil(r.updates / 80)))(r),
    lambda t, d: True,
)
fault(
    "UNDERTRAINED",
    "small-rate",
    lambda r: changed(rate=r.rate / 1000)(r),
    lambda t, d: True,
    "STEP_SIZE",
    needs_step=True,
)
fault(
    "UNDERTRAINED",
    "plain-descent",
    changed(optimizer="sgd", rate=1e-5),
    lambda t, d: True,
    "STEP_SIZE",
    needs_step=True,
    family="held-out",
)
