"""Gradient flow as pictures."""

from collections.abc import Mapping

import torch

from throughtime.instruments.gradient_flow import GradientFlow
from throughtime.reports.curves import by_index, due, relative, steps
from throughtime.reports.numbers import count
from throughtime.results.diagnosis import Picture

FRACTION = 0.01
"""Of a gradient's largest norm: what still counts as arriving."""


def gradient_by_lag(flows: Mapping[str, GradientFlow], needed: int | None = None) -> Picture:
    """How far back the gradient reaches: ||dL/dh|| by lag, relative to its largest.

    Arguments:
        flows: measured gradients by name, the one in question first.
        needed: steps back that the answer needs, if that is known.

    Returns:
        A picture whose level is the 1 % by which `GradientFlow.reach` tells the reach.
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
    """How much of what the weights learn comes from k steps back and more.

    Arguments:
        flows: measured gradients by name, the one in question first.
        needed: steps back that the answer needs, if that is known.
    """
    name, flow = next(iter(flows.items()))
    share = flow.share_beyond
    half = int((share >= 0.5).nonzero().max()) + 1 if bool((share >= 0.5).any()) else None
    return Picture(
        title=f"Half of what {name} learns from, it reads within {steps(half)}."
        if half is not None
        else f"Nothing is there for {name} to learn from.",
        caption="Part of the gradient of the recurrent weights that comes from steps at this lag "
        "and beyond: norms of the summands of ∂L/∂W.",
        x_label="lag: steps before the last one",
        y_label="share of ∂L/∂W from this lag and beyond",
        series=tuple(by_index(k, f.share_beyond) for k, f in flows.items()),
        mark=due(needed),
    )


def gradient_per_gate(flow: GradientFlow) -> Picture:
    """Which gates the gradient goes through: ||dL/da|| of each gate's preactivation by lag.

    Arguments:
        flow: of a gated cell; without gates the picture is empty.
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


def where_the_loss_looks(flow: GradientFlow) -> Picture:
    """At which steps the loss reads the layer directly: median over sequences, 10 to 90 %."""
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
