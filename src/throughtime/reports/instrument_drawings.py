"""What instruments measured, where lines do not suffice: maps of colours and planes."""

import math

import numpy as np
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from torch import Tensor

from throughtime.instruments.gradient_flow import GradientFlow
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import TEMPLATE

COLUMNS, ROWS = 240, 120
"""Cells of a map of colours, at most: what a screen can show."""


def gradient_by_unit(flow: GradientFlow) -> Drawing:
    """Which units the gradient goes back through: log10 |dL/dh_t| of each unit by lag.

    Units are sorted by how much of the gradient they carry in all; where there are more of them, or
    more steps, than a screen can show, a cell is the largest of its units and steps.
    """
    values = flow.per_unit.flip(0).T  # unit, lag
    carried = torch.where(values.isfinite(), values, 0.0).sum(1)
    values = values[carried.argsort(descending=True, stable=True)]
    silent = int((carried == 0).sum())
    figure = map_of_colours(
        values.log10(), across=(0, values.shape[1] - 1), up=(1, len(values)), unit="10<sup>x</sup>"
    )
    figure.update_layout(title={"text": "The gradient of each unit"})
    figure.update_xaxes(title_text="lag: steps before the last one")
    figure.update_yaxes(title_text="unit, sorted", autorange="reversed")
    return Drawing(
        title=f"{silent} of {len(values)} units carry no gradient at all."
        if silent
        else f"The gradient of each of {len(values)} units.",
        caption="log10 of |∂L/∂h| of each unit, over the batch; units that carry most come first. "
        "Blank: exactly zero, or not a number.",
        y_label="unit, sorted",
        labels=(),
        figure=figure,
    )


def map_of_colours(
    values: Tensor,
    *,
    across: tuple[float, float],
    up: tuple[float, float],
    unit: str = "",
    middle: float | None = None,
) -> go.Figure:
    """A matrix as a map of colours, which all kinds of colour vision can read.

    Arguments:
        values: (rows, columns); what is not finite is left blank.
        across: what the first and the last column are, on the axis.
        up: what the first and the last row are.
        unit: written above the scale of colours.
        middle: the value whose colour is neutral, for values that go both ways; None for none.
    """
    finite = torch.where(values.isfinite(), values.double(), -math.inf)
    rows, columns = (
        math.ceil(max(values.shape[k], 1) / most) for k, most in ((0, ROWS), (1, COLUMNS))
    )
    if rows > 1 or columns > 1:
        padded = F.pad(
            finite,
            (0, -finite.shape[1] % columns, 0, -finite.shape[0] % rows),
            value=-math.inf,
        )
        finite = F.max_pool2d(padded[None], (rows, columns))[0]
    shown = torch.where(finite.isfinite(), finite, math.nan)
    figure = go.Figure(
        go.Heatmap(
            z=np.asarray(shown, dtype=np.float32),
            x=spread(*across, shown.shape[1]),
            y=spread(*up, shown.shape[0]),
            colorscale="Cividis" if middle is None else "RdBu",
            zmid=middle,
            colorbar={"thickness": 12, "title": {"text": unit}},
            hovertemplate="%{x:.4~g}, %{y:.4~g}: %{z:.3g}<extra></extra>",
            meta={"series": 0, "role": "map"},
        )
    )
    figure.update_layout(template=TEMPLATE, hovermode="closest", margin={"t": 24, "r": 8})
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    return figure


def spread(first: float, last: float, n: int) -> list[float]:
    """Middles of cells in a row.

    Arguments:
        first, last: of the first and the last cell.
        n: how many.
    """
    if n == 1:
        return [(first + last) / 2]
    return [first + (last - first) * k / (n - 1) for k in range(n)]
