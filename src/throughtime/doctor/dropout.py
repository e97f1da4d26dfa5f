"""Check of dropout, by training copies with less of it."""

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
    """Mode that keeps the largest share that dropout functions drop, and may bound it.

    Arguments:
        most: bound on the share; 1 for none.

    Attributes:
        largest: largest share that was asked for, of calls in training.
    """

    def __init__(self, most: float = 1.0):
        super().__init__()
        self.most, self.largest = most, 0.0

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
                self.largest = max(self.largest, share)
            share = min(share, self.most)
            if len(args) > 1:
                args = (args[0], share, *args[2:])
            else:
                options["p"] = share
        return func(*args, **options)


def strong_dropout(subject: Subject) -> dict[str, float]:
    """Return the shares above 0.6 that the model drops in training, by the name of the place.

    Arguments:
        subject: model, data and loss.
    """
    model = subject.copy(training=True)
    found: dict[str, float] = {}
    for name, module in model.named_modules():
        share = _share_of(module)
        if share is not None and share > _STRONG:
            found[f"{name or 'the model'} ({type(module).__name__})"] = share
    dropouts = Dropouts()
    with torch.no_grad(), dropouts:
        subject.loss(model, subject.training[0])
    if dropouts.largest > max(_STRONG, *found.values(), 0.0):
        found["F.dropout in forward"] = dropouts.largest
    return found


def _share_of(module: nn.Module) -> float | None:
    """Return the share that a module drops; None for other modules."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return float(module.p)
    share: Any = getattr(module, "dropout", None)  # of recurrent layers and of attention
    if not isinstance(share, float) or getattr(module, "num_layers", 2) == 1:
        return None
    return share


def check_dropout(copies: FreshCopies, losses: Sequence[float], where: str) -> Finding | None:
    """Check whether strong dropout keeps the model from learning: a copy with less of it learns.

    It does not where the model has learned nearly as much, which may have taken it more updates.

    Arguments:
        copies: trials of fresh copies.
        losses: held-out losses of the model.
        where: layer and batches, in words.
    """
    if copies.clock.left() < LEAST_SECONDS:
        return None
    strong = strong_dropout(copies.trainer.subject)
    if not strong:
        return None
    usual = copies.plain()
    trial: Trial | None = None
    if usual is not None:
        trial = copies.train("little dropout", _with_little, updates=usual.updates)
    if usual is None or trial is None or not copies.clearly_better(trial, usual):
        return None
    if copies.as_good(losses, trial):
        return None
    name = f"a dropout of {_WEAK:g} at most"
    copies.add_remedy(name, less_dropout(copies.trainer.subject.copy()), usual, trial)
    places = ", ".join(f"{in_percent(share)} at {place}" for place, share in strong.items())
    return Finding(
        cause=Cause.DROPOUT,
        severity="fault",
        certainty="measured",
        statement=f"Dropout removes too much: {places}. A fresh copy with {name} learns, an equal "
        "one as it is does not.",
        effect=difference(trial.after, usual.after),
        effect_name=f"change of the held-out loss with {name}",
        threshold=0.0,
        measured_on=where,
        remedy="Set p to 0.1 to 0.5 there: p is the share that is dropped, not that which is kept.",
    )


def less_dropout(model: nn.Module) -> str:
    """Return code that lets every module of a model drop little."""
    shares = {name: _share_of(module) for name, module in model.named_modules()}
    strong = [name for name, share in shares.items() if share is not None and share > _WEAK]
    named = (
        (name, "p" if hasattr(model.get_submodule(name), "p") else "dropout") for name in strong
    )
    lines = [f"{path_of(name)}.{attribute} = {_WEAK:g}" for name, attribute in named]
    return "\n".join(lines) or f"p={_WEAK:g}  # of F.dropout: the share that is dropped"


def _with_little(condition: Condition) -> Condition:
    for module in condition.model.modules():
        share = _share_of(module)
        if share is not None and share > _WEAK and not hasattr(module, "p"):
            vars(module)["dropout"] = _WEAK

    def loss(batch: Any) -> Tensor:
        with Dropouts(_WEAK):
            return condition.loss(batch)

    return Condition(condition.model, loss, condition.parameters)
