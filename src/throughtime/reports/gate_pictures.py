"""What gates do, as pictures: every unit's place in the distribution over units."""

import torch
from torch import Tensor

from throughtime.instruments.gates import GateActivity
from throughtime.reports.curves import points
from throughtime.reports.numbers import count
from throughtime.results.diagnosis import Picture, Series


def gate_values(activity: GateActivity) -> Picture:
    """The mean of each gate, unit by unit, sorted; empty for cells whose gates are not known."""
    return Picture(
        title=f"What the gates let through, over {count(activity.steps)} steps.",
        caption="The mean value of each gate for each unit, units sorted for each gate alone. A "
        "sigmoid lets nothing through at 0 and everything at 1; tanh runs from -1 to 1.",
        x_label="units, in percent",
        y_label="mean value of the gate",
        series=tuple(_sorted(k, g.mean) for k, g in (activity.gates or {}).items()),
    )


def gate_saturation(activity: GateActivity) -> Picture:
    """How often each gate is at either end of its range, unit by unit, sorted."""
    gates = activity.gates or {}
    mean = {name: float(gate.saturated.mean()) for name, gate in gates.items()}
    worst = max(mean, key=lambda name: mean[name], default="")
    return Picture(
        title=f"The gate that is saturated most is {worst}: {100 * mean[worst]:.3g} % of the time."
        if mean
        else "Saturation of the gates.",
        caption="The share of the steps at which each gate of each unit is saturated, where it "
        "lets hardly any gradient through; units sorted for each gate alone.",
        x_label="units, in percent",
        y_label="share of saturated steps",
        series=tuple(_sorted(k, g.saturated) for k, g in gates.items()),
    )


def time_constants(activity: GateActivity, needed: int | None = None) -> Picture:
    """For how long each unit keeps its memory, sorted; empty where it is not known.

    Arguments:
        activity: of a gated cell.
        needed: steps that have to be remembered, if that is known.
    """
    constants = activity.time_constants
    title = "For how long each unit keeps its memory."
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
