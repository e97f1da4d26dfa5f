"""Check of dropout, by training copies with less of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from throughtime.doctor.brief_training import Trial
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.intervals import difference
from throughtime.doctor.remedies import LEAST_SECONDS, Condition
from throughtime.doctor.subject import Subject
from throughtime.doctor.written_code import path_of
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_STRONG = 0.6  # share that is dropped, from which it is a suspect
_WEAK = 0.1  # share that is dropped in the copy
_HALF = 0.5  # of the gain of a copy with less of it: a model that gains as much learns
_LEFT = 0.1  # of a state that is dropped at every step: the most that is left over the steps

_FUNCTIONS = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    torch.dropout,
)


@final
class Dropouts(TorchFunctionMode):
    """Mode that keeps the shares that dropout functions drop, and may bound them.

    Arguments:
        most: bound on the share; 1 for none.

    Attributes:
        shares: shares that were asked for, of calls in training, in their order.
    """

    def __init__(self, most: float = 1.0):
        super().__init__()
        self.most = most
        self.shares: list[float] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, with a bounded share."""
        del types
        options = dict(kwargs or {})
        if func in _FUNCTIONS:
            given = dict(zip(("input", "p", "training"), args, strict=False)) | options
            share = float(given.get("p", 0.5))
            if given.get("training", given.get("train", True)):
                self.shares.append(share)
            share = min(share, self.most)
            if len(args) > 1:
                args = (args[0], share, *args[2:])
            else:
                options["p"] = share
        return func(*args, **options)


@dataclasses.dataclass(frozen=True)
class Suspects:
    """Dropout that may keep a model from learning.

    Attributes:
        places: share that is dropped, by the name of the place.
        most: largest share that is dropped in the copy with less of it.
        words: statement of what is dropped.
    """

    places: dict[str, float]
    most: float
    words: str


def strong_dropout(subject: Subject, steps: int) -> Suspects | None:
    """Find dropout of more than 0.6, or at every step, of which next to nothing is left over them.

    Arguments:
        subject: model, data and loss.
        steps: steps over which the state is carried.
    """
    model = subject.copy(training=True)
    found: dict[str, float] = {}
    for name, module in model.named_modules():
        share = _share_of(module)
        if share is not None:
            found[f"{name or 'the model'} ({type(module).__name__})"] = share
    dropouts = Dropouts()
    with torch.no_grad(), dropouts:
        subject.loss(model, subject.training[0])
    function = max(dropouts.shares, default=0.0)
    if function > max(found.values(), default=0.0):
        found["F.dropout in forward"] = function
    strong = {place: share for place, share in found.items() if share > _STRONG}
    if strong:
        places = ", ".join(f"{in_percent(share)} at {place}" for place, share in strong.items())
        return Suspects(strong, _WEAK, f"Dropout removes too much: {places}.")
    for share in sorted(set(dropouts.shares), reverse=True):
        left = (1 - share) ** steps
        if steps > 1 and left < _LEFT and dropouts.shares.count(share) >= steps:
            places = [place for place, of in found.items() if of == share]
            place = ", ".join(places) or "F.dropout in forward"
            words = (
                f"Dropout is applied again at every step: {in_percent(share)} at {place}. Of a "
                f"state that passes it, {in_percent(left)} is left over {steps} steps."
            )
            return Suspects({place: share}, 0.0, words)
    return None


def drops_in_evaluation(subject: Subject) -> bool:
    """Return whether a function drops in evaluation mode too."""
    dropouts = Dropouts()
    with torch.no_grad(), dropouts:
        subject.loss(subject.copy(), subject.held_out[0])
    return max(dropouts.shares, default=0.0) > 0


def _share_of(module: nn.Module) -> float | None:
    """Return the share that a module drops; None for other modules."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return float(module.p)
    share: Any = getattr(module, "dropout", None)  # of recurrent layers and of attention
    if not isinstance(share, float) or getattr(module, "num_layers", 2) == 1:
        return None
    return share


def check_dropout(
    copies: FreshCopies, losses: Sequence[float], steps: int, where: str
) -> Finding | None:
    """Check whether dropout keeps the model from learning: a copy with less of it learns.

    It does not where the model has learned nearly as much, which may have taken it more updates; or
    half as much, where nothing is dropped in evaluation: then it costs updates, which is no fault.

    Arguments:
        copies: trials of fresh copies.
        losses: held-out losses of the model.
        steps: steps over which the state is carried.
        where: layer and batches, in words.
    """
    if copies.clock.left() < LEAST_SECONDS:
        return None
    suspects = strong_dropout(copies.trainer.subject, steps)
    if suspects is None:
        return None
    most = suspects.most

    def lessen(condition: Condition) -> Condition:
        return _with_less(condition, most)

    usual = copies.plain()
    trial: Trial | None = None
    if usual is not None:
        trial = copies.train("little dropout", lessen, updates=usual.updates)
    if usual is None or trial is None or not copies.clearly_better(trial, usual):
        return None
    if copies.as_good(losses, trial):
        return None
    half = copies.gain_of(losses) >= _HALF * copies.gain(trial)
    if half and not drops_in_evaluation(copies.trainer.subject):
        return None
    name = f"a dropout of {most:g}{' at most' if most else ''}"
    copies.add_remedy(name, less_dropout(copies.trainer.subject.copy(), most), usual, trial)
    remedy = "Set p to 0.1 to 0.5 there: p is the share that is dropped, not that which is kept."
    if not most:
        remedy = (
            "Apply dropout to what the layer reads or to its outputs, not to the state that the "
            "next step gets; and pass training=self.training to F.dropout."
        )
    return Finding(
        cause=Cause.DROPOUT,
        severity="fault",
        certainty="measured",
        statement=f"{suspects.words} A fresh copy with {name} learns, an equal one as it is does "
        "not.",
        effect=difference(trial.after, usual.after),
        effect_name=f"change of the held-out loss with {name}",
        threshold=0.0,
        measured_on=where,
        remedy=remedy,
    )


def less_dropout(model: nn.Module, most: float = _WEAK) -> str:
    """Return code that lets every module of a model drop little.

    Arguments:
        model: model whose modules drop.
        most: largest share that they drop then.
    """
    shares = {name: _share_of(module) for name, module in model.named_modules()}
    strong = [name for name, share in shares.items() if share is not None and share > most]
    named = (
        (name, "p" if hasattr(model.get_submodule(name), "p") else "dropout") for name in strong
    )
    lines = [f"{path_of(name)}.{attribute} = {most:g}" for name, attribute in named]
    return "\n".join(lines) or f"p={most:g}  # of F.dropout: the share that is dropped"


def _with_less(condition: Condition, most: float) -> Condition:
    for module in condition.model.modules():
        share = _share_of(module)
        if share is not None and share > most and not hasattr(module, "p"):
            vars(module)["dropout"] = most

    def loss(batch: Any) -> Tensor:
        with Dropouts(most):
            return condition.loss(batch)

    return Condition(condition.model, loss, condition.parameters)
