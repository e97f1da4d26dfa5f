import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from throughtime import errors
from throughtime.cells import ElmanCell
from throughtime.instruments.fixed_points import fixed_points
from throughtime.instruments.one_unit import (
    latch_survival,
    one_unit_bifurcation,
    one_unit_fixed_points,
    one_unit_map,
    robust_latching_bound,
)
from throughtime.instruments.scalar_maps import (
    bifurcation,
    cobweb,
    phase_line,
    scalar_cycles,
    scalar_fixed_points,
)


@given(st.floats(-20, 20), st.floats(-5, 5))
def test_every_point_is_fixed_and_their_number_follows_the_bound(w, u):
    found = one_unit_fixed_points(w, u)
    for a, slope in zip(found.points.tolist(), found.slopes.tolist(), strict=True):
        assert abs(w * math.tanh(a) + u - a) <= 4e-15 * (1 + abs(w) + abs(u))
        assert slope == pytest.approx(w * (1 - math.tanh(a) ** 2), abs=1e-12)
    bound = robust_latching_bound(w) if w > 1 else -1.0
    if abs(abs(u) - bound) > 1e-9:
        assert len(found.points) == (3 if abs(u) < bound else 1)
    if len(found.points) == 3 and w > 1 + 1e-5:
        assert found.kinds == ("sink", "source", "sink")


@pytest.mark.parametrize(
    ("w", "kinds"),
    [(-2.0, ("source",)), (-1.0, ("marginal",)), (0.0, ("sink",)), (0.9, ("sink",)),
     (1.0, ("marginal",)), (1.1, ("sink", "source", "sink"))],
)  # fmt: skip
def test_without_input(w, kinds):
    found = one_unit_fixed_points(w)
    assert found.kinds == kinds
    assert found.points[len(kinds) // 2].item() == pytest.approx(0, abs=1e-15)


def test_small_weights_beyond_one():
    """a = w tanh(a) at a^2 = 3 (w - 1) to leading order."""
    for excess in (1e-4, 1e-6):
        found = one_unit_fixed_points(1 + excess)
        assert len(found.points) == 3
        assert found.points[2].item() == pytest.approx(math.sqrt(3 * excess), rel=1e-3)


@pytest.mark.parametrize("w", [1.05, 1.5, 2.0, 4.0, 30.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_at_the_bound_two_points_meet(w, sign):
    found = one_unit_fixed_points(w, sign * robust_latching_bound(w))
    assert len(found.points) == 2
    assert sorted(found.kinds) == ["marginal", "sink"]
    tangent = found.points[found.kinds.index("marginal")].item()
    assert math.tanh(tangent) == pytest.approx(-sign * math.sqrt(1 - 1 / w), abs=1e-12)


TABLE = {
    1.05: 0.0073, 1.1: 0.0205, 1.25: 0.0778, 1.5: 0.2075, 1.75: 0.3622,
    2.0: 0.5328, 2.5: 0.9048, 3.0: 1.3033, 4.0: 2.1471,
}  # fmt: skip


@pytest.mark.parametrize(("w", "expected"), TABLE.items())
def test_latching_bound(w, expected):
    bound = robust_latching_bound(w)
    assert round(bound, 4) == expected
    # by brute force: bisect the constant input that a simulation survives
    low, high = 0.0, w
    for _ in range(26):
        middle = (low + high) / 2
        a = w
        for _ in range(40_000):
            a = w * math.tanh(a) - middle
            if a < 0:
                break
        low, high = (low, middle) if a < 0 else (middle, high)
    assert bound == pytest.approx(low, abs=1e-7)


def test_latching_bound_near_one_does_not_cancel():
    """u* = 2/3 t^3 + 4/5 t^5 + ..., t^2 = 1 - 1/w; and the two forms agree where they meet."""
    for excess in (1e-12, 1e-8, 1e-5):
        w = 1 + excess
        t = math.sqrt((w - 1) / w)
        assert robust_latching_bound(w) == pytest.approx(2 / 3 * t**3 + 4 / 5 * t**5, rel=1e-12)
    for t in (0.28, 0.2999, 0.3001, 0.35):
        w = 1 / (1 - t * t)
        closed = math.sqrt(w * (w - 1)) - math.atanh(math.sqrt(1 - 1 / w))
        assert robust_latching_bound(w) == pytest.approx(closed, rel=1e-13)
    for w in (1.0, 0.5, -2.0, math.nan, math.inf):
        with pytest.raises(errors.ConfigurationError, match="cannot latch"):
            robust_latching_bound(w)


@pytest.mark.parametrize("w", [1.25, 2.0, 4.0])
def test_bounded_noise_survives_below_the_bound_and_not_above(w):
    bound = robust_latching_bound(w)
    for noise in ("uniform", "constant"):
        for start in (w, -w):
            below = latch_survival(w, noise, 0.999 * bound, 600, start=start, runs=300)
            assert below.held[-1] == 1
    above = latch_survival(w, "constant", 1.01 * bound, 600)
    assert above.held[0] == 1
    assert above.kept[-1] == 0
    assert latch_survival(0.9, "constant", 0.0, 50).held[-1] == 1  # it fades, without a flip


# P(keep sign) after 20, 100 and 500 steps, 20,000 runs from 1.5; by an independent simulation
KEPT = {
    (0.2, 1.25): (0.93, 0.69, 0.50), (0.2, 1.5): (0.999, 0.999, 0.992), (0.2, 2.0): (1, 1, 1),
    (0.2**0.5, 1.25): (0.56, 0.50, 0.50), (0.2**0.5, 1.5): (0.77, 0.52, 0.50),
    (0.2**0.5, 2.0): (0.994, 0.969, 0.862), (0.2**0.5, 2.5): (1, 0.9999, 0.9998),
    (0.2**0.5, 3.0): (1, 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_gaussian_noise_as_in_the_table(case):
    deviation, w = case
    survival = latch_survival(w, "gaussian", deviation, 500)
    for steps, expected in zip((20, 100, 500), KEPT[case], strict=True):
        # both are binomial with 20,000 runs; the table is rounded in its last digit
        rounding = 0.005 if round(expected, 2) == expected and expected < 1 else 0.0005
        error = math.sqrt(2) * float(survival.standard_error[steps - 1])
        assert abs(float(survival.kept[steps - 1]) - expected) < 4 * error + rounding, steps
    assert (survival.held <= survival.kept).all()
    assert (survival.held.diff() <= 0).all()


def test_survival_by_seed_and_against_a_loop():
    first = latch_survival(1.3, "uniform", 0.8, 60, runs=300, seed=3)
    again = latch_survival(1.3, "uniform", 0.8, 60, runs=300, seed=3)
    other = latch_survival(1.3, "uniform", 0.8, 60, runs=300, seed=4)
    assert torch.equal(first.kept, again.kept)
    assert not torch.equal(first.kept, other.kept)
    a, count = 1.5, 0
    for t in range(60):  # a constant input is a run that anyone can repeat
        a = 1.3 * math.tanh(a) - 0.2
        count += a > 0
        assert latch_survival(1.3, "constant", 0.2, t + 1).kept[-1] == float(a > 0)
    assert 0 < count < 60


def test_known_maps():
    square = scalar_fixed_points(lambda x: x**2 + 0.15, -3, 3)
    exact = [(1 - math.sqrt(0.4)) / 2, (1 + math.sqrt(0.4)) / 2]
    torch.testing.assert_close(square.points, torch.tensor(exact, dtype=torch.float64))
    assert [round(x, 5) for x in square.points.tolist()] == [0.18377, 0.81623]
    torch.testing.assert_close(square.slopes, 2 * square.points)
    assert [round(s, 4) for s in square.slopes.tolist()] == [0.3675, 1.6325]
    assert square.kinds == ("sink", "source")
    # x^2 + 1/4 touches the diagonal at 1/2; above, nothing is fixed
    touching = scalar_fixed_points(lambda x: x**2 + 0.25, -3, 3)
    assert touching.points.tolist() == [0.5]
    assert touching.kinds == ("marginal",)
    assert scalar_fixed_points(lambda x: x**2 + 0.26, -3, 3).points.numel() == 0
    line = scalar_fixed_points(lambda x: torch.full_like(x, 0.3), -1, 1)
    assert (line.points.tolist(), line.slopes.tolist()) == ([0.3], [0.0])
    # neither a jump nor a pole is a root; a kink may be one
    assert scalar_fixed_points(lambda x: torch.where(x < 0, 1.0, -1.0), -1.5, 1).points.numel() == 0
    pole = scalar_fixed_points(lambda x: 1 / x, -3, 2.5)
    torch.testing.assert_close(pole.points, torch.tensor([-1.0, 1.0]).double())
    tent = scalar_fixed_points(lambda x: 1 - (2 * x - 1).abs(), -1, 2)
    torch.testing.assert_close(tent.points, torch.tensor([0, 2 / 3]).double())
    # fifty steps of x -> 1.1 x
    path = cobweb(lambda x: 1.1 * x, 1.0, 50)
    assert path.shape == (101, 2)
    assert round(path[-1, 1].item(), 3) == 117.391


@pytest.mark.parametrize(("w", "u"), [(0.7, 0.2), (1.5, 0.1), (2.5, -0.9), (4.0, 0.0)])
def test_the_general_search_agrees_with_the_unit(w, u):
    general = scalar_fixed_points(one_unit_map(w, u), -w - 2, w + 2)
    exact = one_unit_fixed_points(w, u)
    torch.testing.assert_close(general.points, exact.points, rtol=0, atol=1e-13)
    torch.testing.assert_close(general.slopes, exact.slopes)
    assert general.kinds == exact.kinds


def test_the_unit_agrees_with_the_cell():
    """h = tanh(w h + u) at h = tanh(a)."""
    cell = ElmanCell(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.fill_(2.0)
        cell.weight_ih.fill_(1.0)
    points = fixed_points(cell, inputs=torch.tensor([0.3]).double(), starts=20)
    exact = one_unit_fixed_points(2.0, 0.3)
    h, order = points.states[:, 0].sort()
    torch.testing.assert_close(h, exact.points.tanh())
    torch.testing.assert_close(points.eigenvalues[order, 0].real, exact.slopes)


def logistic(r):
    return lambda x: r * x * (1 - x)


def test_cycles_of_the_logistic_map():
    four = scalar_cycles(logistic(3.5), 4, 0, 1)
    assert four.kinds == ("sink",)
    expected = [0.382820, 0.500884, 0.826941, 0.874997]
    assert [round(x, 6) for x in sorted(four.points[0].tolist())] == expected
    for a, b in itertools.pairwise([*four.points[0].tolist(), four.points[0, 0].item()]):
        assert 3.5 * a * (1 - a) == pytest.approx(b, abs=1e-12)
    slopes = 3.5 * (1 - 2 * four.points[0])
    assert four.multipliers.item() == pytest.approx(slopes.prod().item())
    # fixed points 0 and 1 - 1/r, the 2-cycle in closed form
    one = scalar_cycles(logistic(3.5), 1, -0.5, 1)
    torch.testing.assert_close(one.points[:, 0], torch.tensor([0, 1 - 1 / 3.5]).double())
    two = scalar_cycles(logistic(3.5), 2, 0, 1)
    root = math.sqrt((3.5 + 1) * (3.5 - 3))
    exact = torch.tensor([[(4.5 - root) / 7, (4.5 + root) / 7]]).double()
    torch.testing.assert_close(two.points, exact, rtol=0, atol=1e-7)
    assert two.multipliers.item() == pytest.approx(1 - (3.5**2 - 2 * 3.5 - 3))
    assert two.kinds == ("source",)


@pytest.mark.parametrize(("period", "cycles"), [(1, 2), (2, 1), (3, 2), (4, 3), (5, 6), (6, 9)])
def test_all_cycles_at_r_4(period, cycles):
    """There x = sin^2(pi y) doubles y: 2^p points return, and each cycle has |multiplier| 2^p."""
    found = scalar_cycles(logistic(4.0), period, -0.5, 1.5)
    assert len(found.points) == cycles
    inner = found.multipliers[found.points[:, 0] > 1e-9]
    torch.testing.assert_close(inner.abs(), torch.full_like(inner, 2.0**period), rtol=1e-6, atol=0)


def test_phase_line_points_where_the_map_goes():
    line = phase_line(one_unit_map(2.0, 0.1), -4, 4)
    assert line.edges.tolist() == [-4.0, *line.fixed.points.tolist(), 4.0]
    assert line.directions.tolist() == [1, -1, 1, -1]
    assert phase_line(lambda x: x + 1, 0, 1).directions.tolist() == [1]


def test_bifurcations():
    pitchfork = one_unit_bifurcation(torch.linspace(0.5, 2, 31).double(), input=0.0)
    for w, count in pitchfork.counts().items():
        assert count == (3 if w > 1 + 1e-9 else 1)
    general = bifurcation(lambda a, w: w * torch.tanh(a), torch.tensor([0.5, 1.5]).double(), -3, 3)
    exact = one_unit_bifurcation(torch.tensor([0.5, 1.5]), input=0.0)
    torch.testing.assert_close(general.points, exact.points, rtol=0, atol=1e-13)
    assert torch.equal(general.parameter, exact.parameter)
    bound = robust_latching_bound(2.0)
    folds = one_unit_bifurcation(
        torch.tensor([-1.0, -bound, 0.0, bound, 1.0], dtype=torch.float64), weight=2.0
    )
    assert list(folds.counts().values()) == [1, 2, 3, 2, 1]
    assert len(folds.kinds) == len(folds.slopes) == 9
    empty = one_unit_bifurcation(torch.zeros(0), weight=2.0)
    assert empty.points.numel() == 0


def test_refusals():
    both = {"weight": 1.0, "input": 0.0}
    cases = [
        (lambda: one_unit_bifurcation(torch.zeros(1), **both), "both weight and input"),
        (lambda: one_unit_bifurcation(torch.zeros(1)), "neither weight nor input"),
        (lambda: one_unit_fixed_points(math.nan), "weight: got nan"),
        (lambda: one_unit_fixed_points(1.0, math.inf), "input: got inf"),
        (lambda: scalar_fixed_points(torch.tanh, 1, 1), "lower below upper"),
        (lambda: scalar_fixed_points(torch.tanh, 0, 1, resolution=1), "resolution: got 1"),
        (lambda: scalar_cycles(torch.tanh, 0, 0, 1), "period: got 0"),
        (lambda: cobweb(torch.tanh, 1.0, -1), "steps: got -1"),
        (lambda: latch_survival(2.0, "gaussian", -1.0, 5), "size: got -1"),
        (lambda: latch_survival(2.0, "gaussian", 1.0, 0), "steps: got 0"),
        (lambda: latch_survival(2.0, "gaussian", 1.0, 5, start=0.0), "a start with a sign"),
    ]
    for call, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            call()
