"""What updates meet, as pictures: walls of the loss, and the noise of its gradient."""

import torch

from throughtime.instruments.cliffs import LossCurve
from throughtime.instruments.gradient_flow import GradientNorms
from throughtime.reports.curves import by_index, points
from throughtime.reports.diagnosis_words import number
from throughtime.reports.numbers import count
from throughtime.results.diagnosis import Picture

SINGLE = 7
"""How many examples have a curve of their own, at most."""


def loss_curve(curve: LossCurve) -> Picture:
    """The loss along a line in parameter space, and that of single examples where it is known."""
    singles = [] if curve.examples is None else [*curve.examples.T[:SINGLE]]
    wall = curve.wall
    return Picture(
        title=f"The loss is steepest at distance {number(wall.distance)}: its gradient's norm is "
        f"{number(wall.gradient_norm)} there.",
        caption=f"Along a unit vector in parameter space: {curve.direction}. "
        + (f"{len(singles)} single examples beside their mean." if singles else ""),
        x_label="distance from the present parameters",
        y_label="loss",
        series=(
            points("mean" if singles else "loss", curve.distances, curve.loss),
            *(points(f"example {k}", curve.distances, e) for k, e in enumerate(singles, 1)),
        ),
        mark=(0.0, "here"),
    )


def steepness(curve: LossCurve) -> Picture:
    """How steep and how curved the loss is along a line in parameter space."""
    known = {
        "gradient, its norm": curve.gradient_norm,
        "curvature along the line": curve.curvature,
        "curvature along the gradient": curve.gradient_curvature,
    }
    return Picture(
        title="Where the gradient explodes, so does the curvature.",
        caption="The norm of the gradient by all parameters, and absolute curvatures, exact."
        if curve.refusal is None
        else f"The norm of the gradient by all parameters. {curve.refusal}",
        x_label="distance from the present parameters",
        y_label="size",
        series=tuple(
            points(name, curve.distances, values.abs())
            for name, values in known.items()
            if values is not None
        ),
        logarithmic=True,
        mark=(0.0, "here"),
    )


def norms_over_batches(norms: GradientNorms, clip: float | None = None) -> Picture:
    """The gradient's norm of each batch, sorted, so that the tail stands on the right.

    Arguments:
        norms: measured on several batches.
        clip: the norm that training clips at, if it does.
    """
    rising = norms.norm.nan_to_num(nan=torch.inf).sort().values
    share = "" if clip is None else f", and {100 * norms.clip_rate(clip):.3g} % are clipped"
    return Picture(
        title=f"The largest gradient is {number(norms.tail_ratio)} times the median{share}.",
        caption=f"The norm of the gradient of {count(norms.batches)} batches, sorted; "
        f"{count(norms.not_finite)} of them are not finite.",
        x_label="batches, by the norm of their gradient",
        y_label="‖∂L/∂θ‖",
        series=(by_index("norm", rising),),
        logarithmic=True,
        level=None if clip is None else (clip, f"clipped at {number(clip)}"),
    )
