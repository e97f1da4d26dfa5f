"""The record of the user's own training: its forms, and what it shows."""

import dataclasses
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.doctor.intervals import difference, exactly
from throughtime.results.diagnosis import Cause, Finding

SPIKE = 100.0  # times its median: a gradient norm that can undo what was learned
_LEAST = 20


@dataclasses.dataclass(frozen=True)
class History:
    """Record of the user's own training.

    Attributes:
        losses: losses of successive updates, or of epochs.
        gradient_norms: gradient norms of successive updates, before any clipping.
    """

    losses: Sequence[float] = ()
    gradient_norms: Sequence[float] = ()

    @property
    def diverged(self) -> bool:
        """True if a loss or gradient norm is not finite."""
        return not all(map(math.isfinite, (*self.losses, *self.gradient_norms)))


def as_history(given: Any) -> History:
    """Return the record of a training from one of its usual forms.

    Of several losses, the one of the training is taken, by step before that by epoch.

    Arguments:
        given: a History; a list of losses; a dict of lists, as Keras' History.history, or the
            object that holds it; rows with named columns, as Lightning's CSVLogger writes and
            csv.DictReader reads, or a table with `to_dict`, as pandas has.

    Raises:
        ConfigurationError: none of these.

    Example:
        >>> as_history({"val_loss": [0.8, 0.7], "loss": [0.6, 0.5]}).losses
        (0.6, 0.5)
        >>> rows = [{"step": "49", "train_loss": "0.7", "val_loss": ""}, {"val_loss": "0.8"}]
        >>> as_history(rows).losses
        (0.7,)
    """
    if isinstance(given, History):
        return given
    inside = getattr(given, "history", None)
    if isinstance(inside, Mapping):
        return as_history(inside)
    if hasattr(given, "to_dict") and hasattr(given, "columns"):
        return as_history(given.to_dict("records"))
    if isinstance(given, Mapping):
        return _of_columns(given)
    values = given if isinstance(given, str | bytes) else _listed(given)
    if isinstance(values, str | bytes) or values is None:
        raise _unusable(type(given).__name__)
    if values and all(isinstance(row, Mapping) for row in values):
        return _of_columns(_columns(values))
    return History(_numbers(values, "losses"))


def _listed(given: Any) -> list[Any] | None:
    if isinstance(given, Tensor):
        given = given.detach().cpu()
    if hasattr(given, "tolist"):  # of torch and numpy
        given = given.tolist()
    return [*given] if isinstance(given, Iterable) else None


def _columns(rows: Sequence[Mapping[Any, Any]]) -> dict[str, list[Any]]:
    """Return the values of each column, without those that a row leaves empty.

    NaN stands for an empty entry, as in pandas, where the row has a number in another column.
    """
    columns: dict[str, list[Any]] = {}
    for row in rows:
        kept = {str(k): v for k, v in row.items() if v is not None and v != ""}
        named = {k: v for k, v in kept.items() if not re.search("step|epoch", k) or "loss" in k}
        if any(not _nan(value) for value in named.values()):
            kept = {k: v for k, v in kept.items() if not _nan(v)}
        for name, value in kept.items():
            columns.setdefault(name, []).append(value)
    return columns


def _nan(value: Any) -> bool:
    return not isinstance(value, str) and bool(value != value)


def _of_columns(columns: Mapping[Any, Any]) -> History:
    names = {str(name): re.sub("[^a-z]+", "_", str(name).lower()) for name in columns}
    losses = [name for name, plain in names.items() if "loss" in plain]
    if not losses:
        raise _unusable(f"columns {', '.join(map(str, columns)) or '(none)'}")

    def order(name: str) -> tuple[bool, bool, int]:
        plain = names[name]
        other = re.search("(^|_)(val|valid|validation|test|eval|dev)(_|$)", plain) is not None
        usual = ("loss", "losses", "train_loss", "training_loss", "train_losses")
        return other, not plain.endswith("_step"), plain not in usual

    norms = [name for name, plain in names.items() if "grad" in plain and "norm" in plain]
    values = {str(name): value for name, value in columns.items()}
    loss = min(losses, key=order)
    return History(
        _numbers(_listed(values[loss]), loss),
        _numbers(_listed(values[norms[0]]), norms[0]) if norms else (),
    )


def _numbers(values: list[Any] | None, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values or ())
    except (TypeError, ValueError) as error:
        raise _unusable(f"{name} that are no numbers ({error})") from error


def _unusable(got: str) -> ConfigurationError:
    return ConfigurationError(
        "history",
        got=got,
        expected="the losses of the training: a list of numbers; or a dict of lists or rows with a "
        "column such as loss or train_loss; or History(losses=..., gradient_norms=...)",
    )


def history_findings(history: History) -> list[Finding]:
    """List numbers that are not finite, spikes of the gradient, and a still falling loss."""
    found: list[Finding] = []
    for name, values in (("loss", history.losses), ("gradient norm", history.gradient_norms)):
        wrong = [k for k, value in enumerate(values) if not math.isfinite(value)]
        if wrong:
            found.append(
                Finding(
                    cause=Cause.EXPLODING,
                    severity="fault",
                    certainty="proved",
                    statement=f"In the history, entry {wrong[0] + 1} of {len(values)} of the "
                    f"{name} is not finite, and {len(wrong)} entries are so in all.",
                    effect=exactly(len(wrong) / len(values), len(values)),
                    effect_name=f"share of entries whose {name} is not finite",
                    threshold=0.0,
                    measured_on="history",
                    remedy="Clip the gradient's norm, use a smaller step, and start from "
                    "orthogonal recurrent weights.",
                )
            )
    norms = [value for value in history.gradient_norms if math.isfinite(value)]
    if len(norms) >= _LEAST and statistics.median(norms) > 0:
        ratio = max(norms) / statistics.median(norms)
        if ratio > SPIKE:
            found.append(
                Finding(
                    cause=Cause.EXPLODING,
                    severity="warning",
                    certainty="measured",
                    statement=f"In the training, the gradient's norm rose to {ratio:.3g} times its "
                    f"median, at entry {history.gradient_norms.index(max(norms)) + 1}.",
                    effect=exactly(ratio, len(norms)),
                    effect_name="largest gradient norm over the median",
                    threshold=SPIKE,
                    measured_on=f"history, {len(norms)} entries",
                    remedy="Clip the gradient's norm at about its median.",
                )
            )
    falling = _still_falling(history.losses)
    if falling is not None:
        found.append(falling)
    return found


def _still_falling(losses: Sequence[float]) -> Finding | None:
    """Return a finding if the last quarter's losses are below those of the quarter before."""
    quarter = len(losses) // 4
    if quarter < _LEAST or not all(map(math.isfinite, losses)):
        return None
    change = difference(losses[-quarter:], losses[-2 * quarter : -quarter])
    before = math.fsum(losses[-2 * quarter : -quarter]) / quarter
    if change.high >= 0 or change.value > -0.02 * abs(before):
        return None
    return Finding(
        cause=Cause.UNDERTRAINED,
        severity="note",
        certainty="measured",
        statement=f"The training's loss was still falling when it ended: by {-change.value:.3g} "
        f"from one quarter of {quarter} entries to the next.",
        effect=change,
        effect_name="change of the loss over the last quarter of the training",
        threshold=0.0,
        measured_on=f"history, {len(losses)} entries",
        remedy="Train on.",
    )
