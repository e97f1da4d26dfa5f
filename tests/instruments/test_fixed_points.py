import itertools
import time

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime import errors
from throughtime.cells import ElmanCell, GRUCell, LSTMCell
from throughtime.core.gated import GatedCell
from throughtime.instruments import Dynamics, record
from throughtime.instruments.fixed_points import fixed_points, recorded_fixed_points
from throughtime.wiring.deep import StackedCell


def elman(weight, bias=None, nonlinearity="tanh"):
    """h = f(W h + b) in float64."""
    weight = torch.as_tensor(weight, dtype=torch.float64)
    cell = ElmanCell(1, len(weight), nonlinearity=nonlinearity, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.copy_(weight)
        cell.bias_hh.zero_()
        cell.bias_ih.zero_() if bias is None else cell.bias_ih.copy_(bias)
    return cell


def assert_fixed(cell, points, tolerance=1e-10):
    """By the cell's own step, and no two alike."""
    F = Dynamics(cell)
    states = points.states[points.fixed]
    with torch.no_grad():
        moved = F(states, points.inputs.expand(len(states), -1))
    assert (moved - states).abs().max() <= tolerance
    apart = torch.cdist(states, states) + torch.eye(len(states), dtype=torch.float64)
    assert apart.min() > 1e-5


def test_a_linear_network_has_one_fixed_point():
    """h = W h + b at (1 - W)^-1 b, with the eigenvalues of W."""
    W = torch.randn(5, 5, dtype=torch.float64) / 3
    b = torch.randn(5, dtype=torch.float64)
    points = fixed_points(elman(W, b, "identity"), starts=20)
    expected = torch.linalg.solve(torch.eye(5, dtype=torch.float64) - W, b)
    torch.testing.assert_close(points.states, expected[None])
    eigenvalues = torch.linalg.eigvals(W)
    modulus = eigenvalues.abs().sort(descending=True)[0]
    torch.testing.assert_close(points.eigenvalues[0].abs(), modulus)
    torch.testing.assert_close(points.eigenvalues[0].sum().real, W.trace())
    torch.testing.assert_close(points.time_constants[0], -1 / modulus.log())
    assert points.found.tolist() == [20]
    assert points.not_converged == 0


@pytest.mark.parametrize(
    ("diagonal", "kind", "unstable"),
    [
        ((0.5, -0.9), "sink", 0),
        ((0.5, -1.1), "saddle", 1),
        ((2.0, -1.1), "source", 2),
        ((0.5, -1.0), "marginal", 0),
    ],
)
def test_kinds_follow_the_eigenvalues(diagonal, kind, unstable):
    points = fixed_points(elman(torch.diag(torch.tensor(diagonal)), None, "identity"), starts=9)
    assert points.kinds == (kind,)
    assert points.unstable.tolist() == [unstable]
    assert points.attractors == ([0] if kind == "sink" else [])


def test_time_constants_of_special_eigenvalues():
    points = fixed_points(elman([[-1.0, 0.0], [0.0, 0.0]], None, "identity"), starts=5)
    assert points.time_constants.tolist() == [[torch.inf, 0.0]]


def test_two_units_that_do_not_meet_have_nine_points():
    """Each unit h = tanh(2 h) is at 0 or at +-a: four sinks, four saddles, one source."""
    a = torch.tensor(1.0, dtype=torch.float64)
    for _ in range(200):
        a = torch.tanh(2 * a)
    points = fixed_points(elman(2 * torch.eye(2)), starts=200)
    expected = sorted(itertools.product([-float(a), 0.0, float(a)], repeat=2))
    found = sorted(tuple(row) for row in points.states.tolist())
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))
    assert points.kinds == ("sink",) * 4 + ("saddle",) * 4 + ("source",)
    assert points.attractors == [0, 1, 2, 3]
    slopes = {"sink": [1 - a**2, 1 - a**2], "saddle": [1.0, 1 - a**2], "source": [1.0, 1.0]}
    for kind, values in zip(points.kinds, points.eigenvalues, strict=True):
        torch.testing.assert_close(values.real, 2 * torch.tensor(slopes[kind]).double())
    assert int(points.found.sum()) + points.not_converged == 200
    assert float(points.share.sum()) <= 1


def test_a_random_network_is_found_whole_whatever_the_number_of_starts():
    W = torch.randn(16, 16, dtype=torch.float64) * 1.5 / 4
    cell = elman(W)
    few, many = fixed_points(cell, starts=128), fixed_points(cell, starts=384, seed=1)
    for points in (few, many):
        assert_fixed(cell, points)
        assert points.unseen == 0
    assert torch.equal(few.fixed, many.fixed)
    torch.testing.assert_close(few.states, many.states, rtol=0, atol=1e-9)
    # tanh is odd: with s also -s
    for state in few.states:
        assert (few.states + state).norm(dim=-1).min() < 1e-9


def newton(F, states, steps=30):
    """Textbook Newton from each row, by central differences, without any safeguard."""
    size, step = states.shape[1], 1e-6
    nudges = step * torch.eye(size, dtype=torch.float64)

    def r(s):
        return F(s, torch.zeros(len(s), 1, dtype=torch.float64)) - s

    for _ in range(steps):
        columns = [(r(states + e) - r(states - e)) / (2 * step) for e in nudges]
        states = states - torch.linalg.solve_ex(torch.stack(columns, -1), r(states))[0]
    return states[r(states).norm(dim=-1) < 1e-11]


@pytest.mark.parametrize("cell_class", [ElmanCell, GRUCell, LSTMCell])
def test_holds_all_points_of_an_independent_newton(cell_class):
    cell = cell_class(1, 3, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.mul_(5)
    F = Dynamics(cell)
    points = fixed_points(cell, starts=128)
    assert_fixed(cell, points)
    with torch.no_grad():
        reference = newton(F, 2 * torch.rand(100, F.size, dtype=torch.float64) - 1)
    assert len(reference) > 25
    near = reference[reference.abs().amax(-1) < 10]
    assert (near[:, None] - points.states).norm(dim=-1).amin(1).max() < 1e-8


@pytest.mark.parametrize(
    ("cell_class", "dtype"),
    [
        (ElmanCell, torch.float64),
        (GRUCell, torch.float64),
        (GRUCell, torch.float32),
        (LSTMCell, torch.float64),
    ],
)
def test_gated_cells_with_an_input(cell_class, dtype):
    cell = cell_class(3, 12, dtype=dtype)
    x = torch.randn(3, dtype=dtype)
    before = {n: p.clone() for n, p in cell.state_dict().items()}
    random = torch.get_rng_state()
    points = fixed_points(cell, inputs=x, starts=32)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(p, before[n]) for n, p in cell.state_dict().items())
    assert points.states.dtype == torch.float64
    assert int(points.fixed.sum()) >= 1
    assert_fixed(cell.double(), points)
    # an attractor is where the network goes
    state = points.states[points.attractors[0]] + 1e-4
    F = Dynamics(cell)
    with torch.no_grad():
        for _ in range(150):
            state = F(state[None], x[None].double())[0]
    torch.testing.assert_close(state, points.states[points.attractors[0]])
    assert set(points.fields) == ({"h", "c"} if cell_class is LSTMCell else {"h"})


def test_jacobians_are_those_of_finite_differences():
    cell = LSTMCell(1, 4, dtype=torch.float64)
    points = fixed_points(cell, starts=8)
    F, s = Dynamics(cell), points.states[0]
    step, x = 1e-6, torch.zeros(2, 1, dtype=torch.float64)
    columns = []
    for k in range(F.size):
        e = torch.zeros(F.size, dtype=torch.float64)
        e[k] = step
        with torch.no_grad():
            up, down = F(torch.stack([s + e, s - e]), x)
        columns.append((up - down) / (2 * step))
    expected = torch.linalg.eigvals(torch.stack(columns, 1)).abs().sort(descending=True)[0]
    torch.testing.assert_close(points.eigenvalues[0].abs(), expected, rtol=1e-6, atol=1e-8)


def test_a_vanished_pair_leaves_a_slow_point():
    """h = tanh(1.5 h + b) a little beyond the fold: the speed has a minimum where 1.5 tanh' = 1."""
    w, beyond = 1.5, 1e-3
    top = -((1 - 1 / w) ** 0.5)  # h where the slope is 1; the lower pair merges there
    fold = torch.atanh(torch.tensor(top, dtype=torch.float64)) - w * top
    bias = (fold + beyond).reshape(1) if fold > 0 else (fold - beyond).reshape(1)
    points = fixed_points(elman([[w]], bias), starts=24)
    assert points.fixed.tolist() == [True, False]
    assert points.states[1].item() == pytest.approx(top, abs=1e-3)
    # a step of the argument by 1e-3, times tanh' = 1/w
    assert points.speeds[1].item() == pytest.approx(beyond / w, rel=1e-2)
    # and it is the lowest of its surroundings
    h = points.states[1] + torch.linspace(-1e-2, 1e-2, 201, dtype=torch.float64)
    speeds = (torch.tanh(w * h + bias) - h).abs()
    assert points.speeds[1] <= speeds.min() * (1 + 1e-6)
    assert fixed_points(elman([[w]], bias), starts=24, slow=1e-4).fixed.tolist() == [True]


def test_a_fold_is_one_marginal_point():
    w = 1.5
    a = torch.tensor(1 - 1 / w, dtype=torch.float64).sqrt()
    points = fixed_points(elman([[w]], (torch.atanh(a) - w * a).reshape(1)), starts=64)
    assert points.kinds == ("sink", "marginal")
    assert points.states[1].item() == pytest.approx(float(a), abs=1e-5)


def test_the_same_seed_gives_the_same_points():
    cell = elman(torch.randn(6, 6, dtype=torch.float64))
    first, second = fixed_points(cell, starts=12), fixed_points(cell, starts=12)
    assert torch.equal(first.states, second.states)
    assert torch.equal(first.found, second.found)


def test_lags_and_stacks():
    cell = ElmanCell(2, 4, lags=(1, 3), dtype=torch.float64)
    points = fixed_points(cell, starts=20)
    assert_fixed(cell, points)
    h = points.states[0]
    torch.testing.assert_close(h[4:8], h[:4])  # at rest, the past is the present
    stack = StackedCell([GRUCell(2, 3, dtype=torch.float64), LSTMCell(3, 2, dtype=torch.float64)])
    assert_fixed(stack, fixed_points(stack, starts=20))


def test_saturated_states_far_out_are_no_points():
    """A GRU whose update gate shuts keeps any state; bounded states are all that it can reach."""
    cell = GRUCell(1, 2, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.mul_(3)
    points = fixed_points(cell, starts=256)
    assert points.states.abs().max() < 1


def test_of_a_recording():
    model = tt.LSTM(2, 6)
    x = torch.randn(12, 5, 2) + 1
    lengths = torch.tensor([12, 3, 7, 1, 9])
    recording = record(model, lambda: model(x, lengths=lengths)[0].sum())
    points = recorded_fixed_points(recording, starts=500, noise=0.1)
    assert points.searches == 32  # all valid steps
    valid = torch.arange(12)[:, None] < lengths
    torch.testing.assert_close(points.inputs, x[valid].double().mean(0))
    cell = LSTMCell(2, 6, dtype=torch.float64)
    cell.load_state_dict({n.removesuffix("_l0"): p.double() for n, p in model.state_dict().items()})
    assert_fixed(cell, points)
    assert recorded_fixed_points(recording, inputs="zero", starts=3).inputs.tolist() == [0, 0]
    given = torch.tensor([1.0, 2.0])
    assert recorded_fixed_points(recording, inputs=given, starts=3).inputs.tolist() == [1, 2]


class Noisy(GatedCell):
    gates = 1
    streams = ("mask",)

    def pointwise(self, x, u, state, streams):
        return streams[0] * (x[0] + u[0]).tanh()

    def draw_streams(self, steps, *, training, dtype, generator):
        return (torch.ones(*steps.shape, 1, dtype=dtype),)


def test_refusals():
    with pytest.raises(errors.ConfigurationError, match=r"changes from step to step \(mask\)"):
        fixed_points(Noisy(1, 2))
    cell = nn.Module.double(ElmanCell(2, 3))
    cases = [
        ({"starts": 0}, "starts: got 0"),
        ({"starts": torch.zeros(0, 3)}, "got no states"),
        ({"starts": torch.full((1, 3), torch.nan)}, "not finite"),
        ({"slow": 0.0}, "slow: got 0.0, expected more than 0"),
    ]
    for options, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            fixed_points(cell, **options)
    for options in ({"starts": torch.zeros(2, 4)}, {"inputs": torch.zeros(3)}):
        with pytest.raises(errors.ShapeError, match="a last axis of"):
            fixed_points(cell, **options)


def test_a_thousand_starts_of_a_gru_take_seconds():
    cell = GRUCell(3, 32)
    began = time.process_time()
    points = fixed_points(cell, starts=1024)
    assert time.process_time() - began < 20
    assert points.not_converged == 0
