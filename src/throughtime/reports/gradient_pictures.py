"""Gradients, gates and the loss as pictures, one function for each kind."""

from collections.abc import Mapping

import torch
from torch import Tensor

from throughtime.instruments.cliffs import LossCurve
from throughtime.instruments.gates import GateActivity, GateStatistics
from throughtime.instruments.gradient_flow import GradientFlow, GradientNorms
from throughtime.reports.lines import by_index, due, points, relative, steps
from throughtime.reports.numbers import count, number
from throughtime.results.diagnosis import Picture, Series

FRACTION = 0.01
"""Share of a gradient's largest norm from which the gradient counts as arriving."""


def gradient_by_lag(flows: Mapping[str, GradientFlow], needed: int | None = None) -> Picture:
    """Show the reach of the gradient: ||dL/dh|| by lag, relative to its largest.

    Arguments:
        flows: Measured gradients by name; the title is about the first.
        needed: Steps between an answer and the inputs that it depends on; None if not known.

    Returns:
        A picture whose level is the 1 % that `GradientFlow.reach` uses.
    """
    name, flow = next(iter(flows.items()))
    reach, last = flow.reach(FRACTION), len(flow.norm) - 1
    return Picture(
        title=f"The gradient of {name} reaches {count(reach)} of {steps(last)} back.",
        caption="The norm of ∂L/∂h at each step before the last one, relative to its largest "
        f"value; it reaches as far back as it is {100 * FRACTION:g} % or more.",
        x_label="lag: steps before the last one",
        y_label="‖∂L/∂h‖, relative to its largest",
        series=tuple(by_index(k, relative(f.norm_by_lag)) for k, f in flows.items()),
        logarithmic=True,
        mark=due(needed),
        level=(FRACTION, f"{100 * FRACTION:g} %"),
    )


def gradient_share(flows: Mapping[str, GradientFlow], needed: int | None = None) -> Picture:
    """Show the share of the weights' gradient that comes from each lag and beyond.

    Arguments:
        flows: Measured gradients by name; the title is about the first.
        needed: Steps between an answer and the inputs that it depends on; None if not known.
    """
    name, flow = next(iter(flows.items()))
    share = flow.share_beyond
    half = (share >= 0.5).nonzero()
    title = f"Half of the weights' gradient of {name} comes from within "
    if len(half):
        title += f"{steps(int(half.max()) + 1)}."
    elif bool(flow.contribution.isfinite().all()):
        title = f"The weights of {name} get no gradient."
    else:
        title = f"The gradient of the weights of {name} is not finite."
    return Picture(
        title=title,
        caption="Part of the gradient of the recurrent weights that comes from steps at this lag "
        "and beyond: norms of the summands of ∂L/∂W.",
        x_label="lag: steps before the last one",
        y_label="share of ∂L/∂W from this lag and beyond",
        series=tuple(by_index(k, f.share_beyond) for k, f in flows.items()),
        mark=due(needed),
    )


def gradient_per_gate(flow: GradientFlow) -> Picture:
    """Show ||dL/da|| of each gate's preactivation by lag.

    Arguments:
        flow: Gradient flow of a gated cell; without gates the picture is empty.
    """
    return Picture(
        title="The gradient at each gate.",
        caption="The norm of ∂L/∂a of each gate's preactivation a, over batch and units. A gate "
        "far below the others learns little.",
        x_label="lag: steps before the last one",
        y_label="‖∂L/∂a‖",
        series=tuple(by_index(name, norm.flip(0)) for name, norm in flow.per_gate.items()),
        logarithmic=True,
    )


def direct_gradient(flow: GradientFlow) -> Picture:
    """Show the steps at which the loss reads the layer: median over sequences, 10 to 90 %."""
    levels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    low, middle, high = torch.nanquantile(flow.answer, levels, dim=1)
    read = int((flow.answer.nan_to_num(nan=1.0) > 0).any(1).sum())
    return Picture(
        title=f"The loss reads the layer at {count(read)} of {steps(len(flow.norm))}.",
        caption="The norm of the gradient that comes into h directly, and not through later "
        "states. Line: median over sequences; band: from 10 to 90 % of them.",
        x_label="step",
        y_label="‖direct ∂L/∂h‖",
        series=(by_index("direct gradient", middle, low=low, high=high),),
    )


def gate_values(activity: GateActivity) -> Picture:
    """Show the mean of each gate for all units, sorted; empty without known gates."""
    return Picture(
        title=f"The mean of each gate over {count(activity.steps)} steps.",
        caption="The mean value of each gate for each unit, units sorted for each gate alone. A "
        "sigmoid lets nothing through at 0 and everything at 1; tanh runs from -1 to 1.",
        x_label="units, in percent",
        y_label="mean value of the gate",
        series=tuple(_sorted(k, g.mean) for k, g in (activity.gates or {}).items()),
    )


def gate_saturation(activity: GateActivity) -> Picture:
    """Show the share of steps at which each gate is saturated, for all units, sorted."""
    gates = activity.gates or {}
    mean = {name: float(gate.saturated.mean()) for name, gate in gates.items()}
    worst = max(mean, key=lambda name: mean[name], default="")
    title = "No gate is ever saturated." if mean else "Saturation of the gates."
    if mean and mean[worst] > 0:
        share = f"{100 * mean[worst]:.3g} %"
        title = f"The gate that is saturated most is {worst}: {share} of the time."
    return Picture(
        title=title,
        caption="The share of the steps at which each gate of each unit is saturated, where it "
        "lets hardly any gradient through; units sorted for each gate alone.",
        x_label="units, in percent",
        y_label="share of saturated steps",
        series=tuple(_sorted(k, g.saturated) for k, g in gates.items()),
    )


def one_gate(gate: GateStatistics) -> Picture:
    """Show the mean of one gate and its share of saturated steps, for all units, sorted."""
    return Picture(
        title=f"The gate is saturated {100 * float(gate.saturated.mean()):.3g} % of the time.",
        caption="The mean value and the share of saturated steps, units sorted for each alone.",
        x_label="units, in percent",
        y_label="value or share",
        series=(_sorted("mean", gate.mean), _sorted("saturated", gate.saturated)),
    )


def time_constants(activity: GateActivity, needed: int | None = None) -> Picture:
    """Show the time for which each unit keeps its memory, sorted; empty if not known.

    Arguments:
        activity: Activity of a gated cell.
        needed: Steps between an answer and the inputs that it depends on; None if not known.
    """
    constants = activity.time_constants
    title = "The time for which each unit keeps its memory."
    if constants is not None and needed is not None:
        longer = int((constants > needed).sum())
        title = f"{longer} of {len(constants)} units keep their memory for {count(needed)} steps."
    return Picture(
        title=title,
        caption="The time constant of each unit: in so many steps its memory decays to 1/e. Units "
        "sorted.",
        x_label="units, in percent",
        y_label="time constant, steps",
        series=() if constants is None else (_sorted("time constant", constants),),
        logarithmic=True,
        level=None if needed is None else (float(needed), f"needed, {count(needed)}"),
    )


def _sorted(name: str, values: Tensor) -> Series:
    share = 100 * (torch.arange(len(values)) + 0.5) / len(values)
    return points(name, share, values.sort().values)


SINGLE = 7
"""Largest number of examples that have a curve of their own."""


def loss_curve(curve: LossCurve) -> Picture:
    """Show the loss along a line in parameter space, and that of single examples if known."""
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
    """Show the slope and the curvature of the loss along a line in parameter space."""
    known = {
        "gradient, its norm": curve.gradient_norm,
        "curvature along the line": curve.curvature,
        "curvature along the gradient": curve.gradient_curvature,
    }
    return Picture(
        title=f"The norm of the gradient is between {number(float(curve.gradient_norm.min()))} and "
        f"{number(float(curve.gradient_norm.max()))} along the line.",
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
    """Show the gradient's norm of each batch, sorted; the tail is on the right.

    Arguments:
        norms: Norms of several batches.
        clip: Norm that training clips at; None for no clipping.
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
