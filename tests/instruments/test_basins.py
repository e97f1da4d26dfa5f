import math

import pytest
import torch

import throughtime as tt
from throughtime import errors
from throughtime.cells import ElmanCell, GRUCell, LSTMCell
from throughtime.instruments import Dynamics, record
from throughtime.instruments.basins import Plane, axes_plane, basins, principal_plane
from throughtime.instruments.fixed_points import (
    fixed_points,
    recorded_fixed_points,
    visited_states,
)


def elman(weight, nonlinearity="tanh"):
    cell = ElmanCell(1, 2, bias=False, nonlinearity=nonlinearity, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.copy_(torch.as_tensor(weight))
    return cell


def test_quadrants_of_two_units_that_do_not_meet():
    """Signs are kept, so that each quadrant is one basin and the axes are none."""
    cell = elman([[2.0, 0.0], [0.0, 1.5]])
    points = fixed_points(cell, starts=100)
    found = basins(cell, points, axes_plane(), resolution=(21, 11))
    assert found.attractor.shape == (11, 21)
    for row, q in enumerate(found.up.tolist()):
        for column, p in enumerate(found.across.tolist()):
            k = int(found.attractor[row, column])
            if abs(p) < 1e-9 or abs(q) < 1e-9:
                assert k == found.time[row, column] == -1
            else:
                end = points.states[k]
                assert (end[0] > 0, end[1] > 0) == (p > 0, q > 0)
    # the axes come to rest at saddles and the origin, which are not attractors
    assert found.unsettled == 21 + 11 - 1
    assert set(found.period[found.attractor < 0].tolist()) == {1}
    assert found.cycling == 0
    assert sum(found.shares().values()) == pytest.approx(1)


def test_times_are_those_of_a_plain_loop():
    """h = 0.5 h and 0.8 h: inside |h|_P <= radius, P = diag(1 / (1 - 0.25), 1 / (1 - 0.64))."""
    cell = elman([[0.5, 0.0], [0.0, 0.8]], "identity")
    points = fixed_points(cell, starts=5)
    found = basins(cell, points, resolution=(3, 5), tolerance=1e-3)
    for row, q in enumerate(found.up.tolist()):
        for column, p in enumerate(found.across.tolist()):
            a, b, t = p, q, 0
            while a * a / 0.75 + b * b / 0.36 > 1e-6:
                a, b, t = 0.5 * a, 0.8 * b, t + 1
            assert found.time[row, column] == t
    assert found.time[2, 1] == 0
    few = basins(cell, points, resolution=(3, 5), steps=2)
    assert few.unsettled == 14
    assert set(few.time.flatten().tolist()) == {-1, 0}


def test_a_transient_that_leaves_is_not_an_end():
    """A non-normal map takes what is near its sink far away first: the metric knows."""
    cell = elman([[0.5, 1000.0], [0.0, 0.5]], "identity")
    points = fixed_points(cell, starts=3)
    plane = axes_plane((-1e-4, 1e-4, -1e-4, 1e-4))
    found = basins(cell, points, plane, resolution=(3, 3))
    assert found.time[1].tolist() == [0, 0, 0]  # along the eigenvector: at the end already
    assert (found.time[0] > 5).all()


def test_cycles_and_rings_end_nowhere():
    flip = elman([[-2.0, 0.0], [0.0, 0.5]])  # h -> tanh(-2 h) has a cycle of two
    points = fixed_points(flip, starts=20)
    assert points.attractors == []
    found = basins(flip, points, resolution=(10, 10), steps=100)
    assert found.unsettled == found.cycling == 100
    assert set(found.period.flatten().tolist()) == {2}
    assert found.shares() == {-1: 1.0}
    c, s = math.cos(1.0), math.sin(1.0)  # an irrational turn
    ring = elman([[1.5 * c, -1.5 * s], [1.5 * s, 1.5 * c]])
    found = basins(ring, fixed_points(ring, starts=8), resolution=(4, 4), steps=200, tolerance=1e-6)
    assert found.unsettled == 16
    assert found.cycling == 0
    growing = elman([[3.0, 0.0], [0.0, 3.0]], "relu")
    found = basins(growing, fixed_points(growing, starts=8), resolution=(4, 4))
    assert found.attractor[-1, -1] == -1
    assert found.period[-1, -1] == 0


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_on_the_principal_plane_of_a_recording(kind):
    model = getattr(tt, kind)(2, 4)
    with torch.no_grad():
        model.weight_hh_l0.mul_(3)
    recording = record(model, lambda: model(torch.randn(20, 6, 2))[0].sum())
    points = recorded_fixed_points(recording, starts=40, noise=0.5)
    visited = visited_states(recording)
    plane = principal_plane(visited)
    found = basins(recording.cell, points, plane, resolution=(7, 5), steps=150)
    # some starts again, one by one
    cell = {"RNN": ElmanCell, "GRU": GRUCell, "LSTM": LSTMCell}[kind](2, 4, dtype=torch.float64)
    cell.load_state_dict({n.removesuffix("_l0"): p for n, p in model.state_dict().items()})
    F = Dynamics(cell)
    for row, column in ((0, 0), (2, 3), (4, 6), (1, 5)):
        s = plane.origin + found.across[column] * plane.across + found.up[row] * plane.up
        with torch.no_grad():
            for _ in range(150):
                s = F(s[None], points.inputs[None])[0]
        k = int(found.attractor[row, column])
        near = (points.states - s).norm(dim=-1) < 0.01
        assert bool(near[k]) if k >= 0 else not near[points.attractors].any()


def test_principal_plane():
    """Points of an ellipse in a plane of five dimensions: its axes, and its rectangle."""
    frame = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64))[0]
    angle = torch.arange(0, 360, 10, dtype=torch.float64).deg2rad()
    flat = torch.stack([3 * angle.cos(), angle.sin()], 1)
    states = flat @ frame.T + 7
    plane = principal_plane(states, margin=0.5)
    assert (plane.across @ frame[:, 0]).abs().item() == pytest.approx(1)
    assert (plane.up @ frame[:, 1]).abs().item() == pytest.approx(1)
    torch.testing.assert_close(plane.coordinates(states).abs(), flat.abs())
    assert plane.extent == pytest.approx((-6, 6, -2, 2), rel=1e-2)
    assert plane.across[plane.across.abs().argmax()] > 0


def test_refusals():
    cell = elman([[0.5, 0.0], [0.0, 0.5]])
    points = fixed_points(cell, starts=3)
    wide = fixed_points(GRUCell(1, 3), starts=3)
    cases = [
        (lambda: basins(GRUCell(1, 3), wide), "none, for a state of 3 components"),
        (lambda: basins(cell, points, resolution=(1, 5)), "at least 2 by 2"),
        (lambda: basins(cell, points, steps=0), "steps: got 0"),
        (lambda: axes_plane((1.0, 0.0, 0.0, 1.0)), "lowest below highest"),
        (lambda: principal_plane(torch.zeros(2, 2)), "at least 3 rows"),
        (lambda: principal_plane(torch.ones(5, 1) * torch.arange(3)), "on one line"),
    ]
    for call, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            call()
    with pytest.raises(errors.ShapeError, match="points: got states of 3"):
        basins(cell, wide)
    zero = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(errors.ShapeError, match="plane: got states of 3"):
        basins(cell, points, Plane(zero, zero, zero, (0.0, 1.0, 0.0, 1.0)))
