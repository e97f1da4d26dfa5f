"""What the user's own record of the training tells."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from throughtime.doctor.intervals import difference, exactly
from throughtime.results.diagnosis import Cause, Finding

SPIKE = 100.0  # times its median: a gradient norm that can undo what was learned
_LEAST = 20


@dataclasses.dataclass(frozen=True)
class History:
    """What the user's own training recorded.

    Attributes:
        losses: of successive updates.
        gradient_norms: likewise, before any clipping.
    """

    losses: Sequence[float] = ()
    gradient_norms: Sequence[float] = ()

    @property
    def diverged(self) -> bool:
        """Whether anything in it is not finite."""
        return not all(map(math.isfinite, (*self.losses, *self.gradient_norms)))


def history_findings(history: History) -> list[Finding]:
    """Numbers that are not finite, spikes of the gradient, a loss that was still falling."""
    found: list[Finding] = []
    for name, values in (("loss", history.losses), ("gradient norm", history.gradient_norms)):
        wrong = [k for k, value in enumerate(values) if not math.isfinite(value)]
        if wrong:
            found.append(
                Finding(
                    cause=Cause.EXPLODING,
                    severity="fault",
                    certainty="proved",
                    statement=f"In the training, the {name} of update {wrong[0] + 1} of "
                    f"{len(values)} was not finite, and of {len(wrong)} in all.",
                    effect=exactly(len(wrong) / len(values), len(values)),
                    effect_name=f"share of updates whose {name} is not finite",
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
                    f"median, at update {history.gradient_norms.index(max(norms)) + 1}.",
                    effect=exactly(ratio, len(norms)),
                    effect_name="largest gradient norm over the median",
                    threshold=SPIKE,
                    measured_on=f"history, {len(norms)} updates",
                    remedy="Clip the gradient's norm at about its median.",
                )
            )
    falling = _still_falling(history.losses)
    if falling is not None:
        found.append(falling)
    return found


def _still_falling(losses: Sequence[float]) -> Finding | None:
    """Whether the last quarter's losses are below those of the quarter before."""
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
        f"from one quarter of {quarter} updates to the next.",
        effect=change,
        effect_name="change of the loss over the last quarter of the training",
        threshold=0.0,
        measured_on=f"history, {len(losses)} updates",
        remedy="Train on.",
    )
