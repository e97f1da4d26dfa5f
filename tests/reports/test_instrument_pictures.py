"""Pictures of instruments: their values are the measured ones, and each can be drawn and shown."""

import dataclasses
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from reports.diagnoses import HEALTHY, HOSTILE
from reports.measured import (
    DECODING,
    INFLUENCE,
    JACOBIANS,
    LENGTHS,
    NORMS,
    ONES,
    SPECTRUM,
    SURVIVAL,
    cliff,
    flow,
    halving,
    lstm_gates,
)
from torch import nn

from throughtime.cells import ElmanCell
from throughtime.instruments import (
    basins,
    cobweb,
    gradient_flow,
    latch_survival,
    one_unit_bifurcation,
    one_unit_map,
    phase_line,
)
from throughtime.instruments.fixed_points import fixed_points
from throughtime.reports import curves, planes
from throughtime.reports.drawing import Drawing, draw
from throughtime.reports.page import render_page
from throughtime.results.diagnosis import Picture

MADE: dict[str, Callable[[], Picture]] = {
    "gradient_by_lag": lambda: curves.gradient_by_lag({"rnn": flow(halving().flip(0))}, 3),
    "gradient_share": lambda: curves.gradient_share({"rnn": flow(halving().flip(0))}, 3),
    "gradient_share of none": lambda: curves.gradient_share({"rnn": flow(ONES * 0)}),
    "gradient_per_gate": lambda: curves.gradient_per_gate(flow(halving())),
    "direct_gradient": lambda: curves.direct_gradient(flow(halving())),
    "change_survival": lambda: curves.change_survival({"rnn": SURVIVAL}, 3),
    "decoded_inputs": lambda: curves.decoded_inputs({"rnn": DECODING}, 3),
    "influence_of_old_inputs": lambda: curves.influence_of_old_inputs(INFLUENCE),
    "latch_over_time": lambda: curves.latch_over_time(
        latch_survival(1.25, "gaussian", 0.5, 40, runs=200)
    ),
    "loss_by_length": lambda: curves.loss_by_length(LENGTHS),
    "jacobian_products": lambda: curves.jacobian_products(JACOBIANS, 3),
    "singular_values_of_products": lambda: curves.singular_values_of_products(JACOBIANS),
    "jacobian_steps": lambda: curves.jacobian_steps(JACOBIANS),
    "lyapunov_exponents": lambda: curves.lyapunov_exponents({"rnn": SPECTRUM}),
    "lyapunov_convergence": lambda: curves.lyapunov_convergence(SPECTRUM),
    "gate_values": lambda: curves.gate_values(lstm_gates()),
    "gate_saturation": lambda: curves.gate_saturation(lstm_gates()),
    "time_constants": lambda: curves.time_constants(lstm_gates(), 5),
    "loss_curve": lambda: curves.loss_curve(cliff()),
    "steepness": lambda: curves.steepness(cliff()),
    "norms_over_batches": lambda: curves.norms_over_batches(NORMS, 2.5),
}


@pytest.mark.parametrize("name", MADE)
def test_every_picture_can_be_drawn(name: str) -> None:
    picture = MADE[name]()
    assert picture.title.endswith(".")
    assert "nan" not in picture.title
    assert picture.series
    for series in picture.series:
        assert len(series.x) == len(series.y)
        assert len(series.low) == len(series.high)
        assert len(series.low) in (0, len(series.x))
    json.loads(draw(picture).to_json() or "")


def test_titles_say_what_was_measured() -> None:
    titles = {name: make().title for name, make in MADE.items()}
    assert titles["gradient_by_lag"] == "The gradient of rnn reaches 4 of 4 steps back."
    # 1, 1/2, ..., 1/16: of 31/16 in all, 16/16 are at lag 0
    assert (
        titles["gradient_share"] == "Half of the weights' gradient of rnn comes from within 1 step."
    )
    assert titles["change_survival"] == "Half of a change of the state of rnn is gone after 1 step."
    assert titles["decoded_inputs"] == "The state of rnn shows its inputs up to 0 steps back."
    assert titles["influence_of_old_inputs"] == "Inputs more than 1 step back still lower the loss."
    assert titles["loss_by_length"] == ("From length 40 on, the loss is larger than at length 10.")
    assert titles["norms_over_batches"] == (
        "The largest gradient is 40 times the median, and 60 % are clipped."
    )
    assert titles["lyapunov_exponents"] == (
        "Differences in rnn shrink by a factor 0.819 a step: it forgets."
    )


def test_gradient_is_relative_to_its_largest() -> None:
    model = nn.GRU(1, 8)
    measured = gradient_flow(model, lambda: model(torch.ones(20, 2, 1))[0][-1].sum())
    (series,) = curves.gradient_by_lag({"gru": measured}).series
    expected = measured.norm_by_lag / measured.norm.max()
    assert series.y == pytest.approx(expected.tolist())
    assert series.x == tuple(range(20))


def test_products_are_exponentials_of_logarithms() -> None:
    picture = curves.jacobian_products(JACOBIANS)
    assert [s.label for s in picture.series] == [
        "norm of the product",
        "bound: product of the steps' norms",
        "bound: Hochreiter's",
    ]
    assert picture.series[0].x == (1, 2, 3, 4, 5)
    assert picture.series[0].y == pytest.approx([math.exp(-0.1)] * 5)
    assert picture.series[2].y == pytest.approx([math.exp(3)] * 5)


def test_exponents_of_lost_directions_are_drawn_at_the_edge() -> None:
    figure = draw(curves.lyapunov_exponents({"rnn": SPECTRUM}))
    assert "-∞" in figure.layout.yaxis.ticktext


def test_long_curves_are_thinned() -> None:
    (series,) = curves.gradient_by_lag({"rnn": flow(torch.ones(10_000).double())}).series
    assert len(series.x) == 2000
    assert (series.x[0], series.x[-1]) == (0, 9999)


# -- what is no picture of lines -----------------------------------------------------------------


def test_gradient_by_unit_is_sorted_and_blank_where_it_is_zero() -> None:
    drawing = planes.gradient_by_unit(flow(torch.tensor([0.01, 0.1, 1.0]).double()))
    assert drawing.title == "1 of 3 units carry no gradient at all."
    z = np.asarray(drawing.figure.data[0].z)
    half = math.log10(0.5)
    assert z[:2] == pytest.approx(np.array([[0, -1, -2], [half, half - 1, half - 2]]), abs=1e-6)
    assert np.isnan(z[2]).all()


def test_map_of_colours_keeps_the_largest_of_what_it_joins() -> None:
    values = torch.zeros(500, 1000)
    values[499, 999] = 7
    figure = planes.map_of_colours(values, across=(0, 999), up=(0, 499))
    z = np.asarray(figure.data[0].z)
    assert z.shape[0] <= 120
    assert z.shape[1] <= 240
    assert z[-1, -1] == 7
    assert (figure.data[0].x[0], figure.data[0].x[-1]) == (0, 999)


def test_fixed_points_of_two_units_that_do_not_meet() -> None:
    """tanh(1.5 h) has sinks at +-0.858 and a source at 0: four sinks, four saddles, one source."""
    cell = ElmanCell(1, 2, bias=False)
    with torch.no_grad():
        cell.weight_hh.copy_(1.5 * torch.eye(2))
    found = fixed_points(cell, starts=200)
    drawing = planes.fixed_point_map(found, visited=torch.zeros(3, 2).double())
    assert drawing.title == "Fixed points found: 9, attracting: 4, slow points: 0."
    assert drawing.labels == ("saddle", "sink", "source")
    groups = {trace.name: trace for trace in drawing.figure.data}
    assert [len(groups[name].x) for name in drawing.labels] == [4, 4, 1]
    radius = [math.hypot(*at) for at in zip(groups["sink"].x, groups["sink"].y, strict=True)]
    assert radius == pytest.approx([0.8586 * math.sqrt(2)] * 4, rel=1e-3)
    circle, first, *_ = planes.eigenvalues(found).figure.data
    assert [math.hypot(*at) for at in zip(circle.x, circle.y, strict=True)] == pytest.approx(
        [1] * 181
    )
    slope = 1.5 * (1 - 0.8586**2)
    assert first.x == pytest.approx([slope, slope], rel=1e-3)


def test_basins_of_two_units_that_do_not_meet() -> None:
    """tanh(2 h) has sinks at +-0.9575, and 0 parts their basins: two units have four quadrants."""
    cell = ElmanCell(1, 2, bias=False)
    with torch.no_grad():
        cell.weight_hh.copy_(2 * torch.eye(2))
    found = fixed_points(cell, starts=100)
    drawing = planes.basins_of_attraction(basins(cell, found, resolution=(20, 20)), found)
    assert drawing.title == "Starts on this plane end in 4 attractors; 0 % in none of them."
    z = np.asarray(drawing.figure.data[0].z)
    assert len(np.unique(z)) == 4
    for half in (z[:10, :10], z[10:, :10], z[:10, 10:], z[10:, 10:]):
        assert len(np.unique(half)) == 1
    marks = [trace for trace in drawing.figure.data if trace.meta["role"] == "mark"]
    assert len(marks) == 4
    assert all(math.hypot(m.x[0], m.y[0]) == pytest.approx(0.9575 * 2**0.5, 1e-3) for m in marks)


def test_the_map_of_one_unit() -> None:
    """a -> 2 tanh(a): sinks at +-1.915, a source at 0; states move towards the sinks."""
    f = one_unit_map(2.0)
    drawing = planes.phase_line(phase_line(f, -3.0, 3.0), f, cobweb(f, 0.1, 30))
    assert drawing.title == "3 fixed points, 2 of them attracting."
    assert drawing.labels == ("F(x)", "iteration", "sink", "source")
    arrows = drawing.figure.layout.annotations
    assert [arrow.x > arrow.ax for arrow in arrows] == [True, False, True, False]
    path = next(trace for trace in drawing.figure.data if trace.name == "iteration")
    assert path.y[-1] == pytest.approx(1.915008, abs=1e-5)


def test_where_one_unit_starts_to_latch() -> None:
    found = one_unit_bifurcation(torch.linspace(0.5, 1.5, 11).double(), input=0.0)
    drawing = planes.bifurcation_diagram(found, "weight")
    assert drawing.title == "Up to 3 fixed points, by weight."
    sinks = next(trace for trace in drawing.figure.data if trace.name == "sink")
    assert sum(x > 1.01 for x in sinks.x) == 10


def test_a_last_step_that_starts_afresh_has_an_empty_picture() -> None:
    none = dataclasses.replace(
        JACOBIANS,
        lags=JACOBIANS.lags[:0],
        log_norm_bound=JACOBIANS.log_norm_bound[:0],
        uncertainty=JACOBIANS.uncertainty[:0],
        log_hochreiter_bound=None,
        log_products=JACOBIANS.log_products[:0],
        cut=0,
    )
    for make in (curves.jacobian_products, curves.singular_values_of_products):
        picture = make(none)
        assert picture.title.startswith("The last step starts afresh")
        draw(picture)


def test_drawings_have_a_place_on_the_page() -> None:
    index = torch.tensor([[0, 1, 1], [0, 0, -1]])
    names, points = ("left", HOSTILE), {HOSTILE: torch.tensor([[0.5, 0.5]])}
    figure = planes.regions(
        index, ("1", "unit 2"), across=(-1, 1), up=(0, 1), names=names, marked=points
    )
    assert np.isnan(np.asarray(figure.data[0].z)[1, 2])
    assert "<script" not in figure.to_json()
    page = render_page(HEALTHY, [Drawing("Two basins.", "How.", names, figure)])
    assert page.index("More pictures") < page.index("Two basins.")
    assert 'id="data-drawing-0"' in page
