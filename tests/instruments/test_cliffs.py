"""The loss along a line against closed forms and differences."""

import math

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable

import throughtime as tt
from throughtime import errors
from throughtime.instruments.cliffs import loss_along
from throughtime.instruments.gradient_flow import gradient_norms

ENTRY = ("weight_hh_l0", (0, 0))


def grid(low, high, points):
    return torch.linspace(low, high, points, dtype=torch.float64)


@pytest.mark.parametrize("target", [0.0, 2.0])
def test_one_linear_unit_has_the_loss_of_a_power(target):
    """h_T = w^T: L = (w^T - y)^2, with its first and second derivative by w."""
    T, start = 12, 0.95
    model = tt.RNN(1, 1, nonlinearity="identity", bias=False, dtype=torch.float64, engine="eager")
    with torch.no_grad():
        model.weight_hh_l0.fill_(start)
    x = torch.zeros(T, 1, 1, dtype=torch.float64)
    h = torch.ones(1, 1, 1, dtype=torch.float64)
    a = grid(-0.2, 0.2, 21)
    curve = loss_along(
        model, lambda: (model(x, h)[0][-1] - target).square().sum(), ENTRY, distances=a
    )
    w = start + a
    power, first, second = w**T, T * w ** (T - 1), T * (T - 1) * w ** (T - 2)
    slope = 2 * (power - target) * first
    torch.testing.assert_close(curve.loss, (power - target).square())
    torch.testing.assert_close(curve.slope, slope)
    # the input is zero, so that no other weight has a gradient
    torch.testing.assert_close(curve.gradient_norm, slope.abs())
    curvature = 2 * first.square() + 2 * (power - target) * second
    torch.testing.assert_close(curve.curvature, curvature)
    torch.testing.assert_close(curve.gradient_curvature, curvature)
    assert curve.refusal is None
    assert (curve.origin, curve.direction) == (start, "weight_hh_l0[0, 0]")
    k = int(slope.abs().argmax())
    assert (
        curve.wall
        == curve.wall_along
        == (
            float(a[k]),
            float(curve.slope[k]),
            abs(float(curve.slope[k])),
        )
    )
    assert curve.examples is None
    assert curve.example_walls() == []


def tanh_unit(w, b, h, T):
    """h_T of one tanh unit and its derivative by w, by the recursion."""
    derivative = 0.0
    for _ in range(T):
        after = math.tanh(w * h + b)
        derivative = (1 - after**2) * (h + w * derivative)
        h = after
    return h, derivative


def test_a_tanh_unit_has_a_cliff_where_its_attractor_vanishes():
    T, b, h, w = 60, -0.1, 0.6, 1.5
    model = nn.RNN(1, 1).double()
    with torch.no_grad():
        model.weight_hh_l0.fill_(w)
        model.bias_ih_l0.fill_(b)
        model.bias_hh_l0.zero_()
    x = torch.zeros(T, 1, 1, dtype=torch.float64)
    start = torch.full((1, 1, 1), h, dtype=torch.float64)
    a = grid(-0.4, 0.1, 101)
    curve = loss_along(
        model,
        lambda: (model(x, start)[0][-1] - 0.9).square().sum(),
        ENTRY,
        distances=a,
        curvature=False,
    )
    ends = [tanh_unit(w + float(d), b, h, T) for d in a]
    loss = torch.tensor([(end - 0.9) ** 2 for end, _ in ends], dtype=torch.float64)
    slope = torch.tensor([2 * (end - 0.9) * d for end, d in ends], dtype=torch.float64)
    torch.testing.assert_close(curve.loss, loss)
    torch.testing.assert_close(curve.slope, slope)
    assert curve.wall_along.distance == float(a[slope.abs().argmax()])
    # high ground below the cliff, low above, and a wall between that is far steeper than both
    assert curve.loss[0] > 1
    assert curve.loss[-1] < 0.3
    assert abs(curve.wall_along.slope) > 30 * max(abs(slope[0]), abs(slope[-1]))
    # gradients of the biases count in the norm: theirs are larger still
    assert (curve.gradient_norm >= curve.slope.abs()).all()
    assert (curve.curvature, curve.refusal) == (None, "it was not asked for")


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["gradient", "given"])
def test_slopes_and_curvatures_are_those_of_differences(kind, direction):
    model = getattr(nn, kind)(3, 5, dtype=torch.float64)
    x = torch.randn(9, 4, 3, dtype=torch.float64)
    if direction == "given":
        direction = {
            name: torch.randn_like(model.get_parameter(name))
            for name in ("weight_hh_l0", "bias_ih_l0")
        }
    a = grid(-0.005, 0.005, 11)
    curve = loss_along(model, lambda: model(x)[0][-1].square().mean(), direction, distances=a)
    slope = (curve.loss[2:] - curve.loss[:-2]) / (a[2:] - a[:-2])
    torch.testing.assert_close(curve.slope[1:-1], slope, rtol=1e-3, atol=1e-7)
    assert curve.second_difference[[0, -1]].isnan().all()
    torch.testing.assert_close(
        curve.second_difference[1:-1], curve.curvature[1:-1], rtol=1e-3, atol=1e-6
    )
    if curve.direction == "gradient":
        torch.testing.assert_close(curve.slope[5], curve.gradient_norm[5])
        torch.testing.assert_close(curve.curvature[5], curve.gradient_curvature[5])
    else:
        assert curve.direction == "given"
        assert (curve.gradient_norm > curve.slope.abs()).all()
        # the curvature along the gradient, by differences of the gradient
        own = loss_along(model, lambda: model(x)[0][-1].square().mean(), distances=a)
        torch.testing.assert_close(
            own.second_difference[5], curve.gradient_curvature[5], rtol=1e-3, atol=1e-6
        )


def test_second_differences_at_unequal_distances():
    """A parabola's are exact on any grid."""
    model = nn.Linear(1, 1, bias=False).double()
    a = torch.tensor([-1.0, -0.3, 0.1, 0.2, 1.5], dtype=torch.float64)
    curve = loss_along(
        model, lambda: 3 * model.weight.square().sum(), ("weight", (0, 0)), distances=a
    )
    torch.testing.assert_close(curve.second_difference[1:-1], torch.full((3,), 6.0).double())
    torch.testing.assert_close(curve.curvature, torch.full((5,), 6.0).double())


def test_the_loss_of_each_example_is_at_least_as_steep_as_their_mean():
    """Every example has a bias of its own, and with it a place where its attractor vanishes."""
    model = nn.RNN(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight_hh_l0.fill_(1.5)
        model.weight_ih_l0.fill_(1.0)
    x = -grid(0.02, 0.3, 16)[None, :, None].expand(60, -1, -1)
    start = torch.full((1, 16, 1), 0.6, dtype=torch.float64)

    def each():
        return (model(x, start)[0][-1, :, 0] - 0.9).square()

    a = grid(-0.5, 0.5, 101)
    curve = loss_along(
        model, lambda: each().mean(), ENTRY, distances=a, per_example=each, curvature=False
    )
    torch.testing.assert_close(curve.examples.mean(1), curve.loss)
    walls = curve.example_walls()
    assert len(walls) == 16
    steepest = max(abs(wall.slope) for wall in walls)
    mean = float((curve.loss.diff() / a.diff()).abs().max())
    assert steepest > 2 * mean  # the walls of single examples lie in different places
    assert len({wall.distance for wall in walls}) > 4
    k = int(((curve.examples[:, 3].diff()) / a.diff()).abs().argmax())
    assert walls[3].distance == pytest.approx(float(a[k] + a[k + 1]) / 2)
    assert all(a[0] < wall.distance < a[-1] for wall in walls)


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.rnn = nn.GRU(3, 4, 2, dropout=0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.rnn(self.norm(x.transpose(1, 2)).transpose(1, 2))[0][-1] * self.calls


def test_the_model_is_as_it_was_and_dropout_is_no_cliff():
    model, x = Dropping(), torch.randn(5, 2, 3)
    model.rnn.bias_hh_l0.requires_grad_(False)
    model(x).sum().backward()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    gradients = {
        n: p.grad and p.grad.clone() for n, p in model.named_parameters() if p.grad is None
    }
    random, calls = torch.get_rng_state(), []

    def loss():
        calls.append(1)
        return model(x).square().mean()

    curve = loss_along(model, loss, distances=grid(-1e-3, 1e-3, 5), per_example=None)
    assert curve.curvature is not None
    torch.testing.assert_close(curve.loss, curve.loss[2].expand(5), rtol=0.02, atol=0)
    assert (curve.slope > 0).all()
    entry = loss_along(model, loss, ("rnn.bias_hh_l0", (2,)), distances=grid(-1, 1, 3))
    assert entry.slope.any()  # a frozen parameter that is asked for
    gradient_norms(model, [loss, loss])
    with pytest.raises(RuntimeError, match="stop"):
        loss_along(model, lambda: (_ for _ in ()).throw(RuntimeError("stop")))
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name != "rnn.bias_hh_l0")
        assert (parameter.grad is None) == (name in gradients)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class Cut(torch.autograd.Function):
    """What never says that its gradient is not a function of anything."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        return (2 * ctx.saved_tensors[0] * gradient).detach()


def test_a_curvature_that_is_refused_is_not_tried_again(monkeypatch):
    graphs = []
    grad = torch.autograd.grad

    def counted(*arguments, **options):
        graphs.append(options.get("create_graph", False))
        return grad(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    model = nn.Linear(2, 1).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    curve = loss_along(model, lambda: Once.apply(model(x)).mean(), distances=grid(-1, 1, 5))
    assert curve.refusal is not None
    assert graphs.count(True) == 1


def test_what_cannot_be_differentiated_twice_is_said_so():
    model = nn.Linear(2, 1).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    a = grid(-1, 1, 5)
    once = loss_along(model, lambda: Once.apply(model(x)).mean(), distances=a)
    twice = loss_along(model, lambda: model(x).square().mean(), distances=a)
    assert once.curvature is None
    assert once.gradient_curvature is None
    assert "once_differentiable" in once.refusal
    torch.testing.assert_close(once.slope, twice.slope)
    torch.testing.assert_close(once.second_difference, twice.second_difference, equal_nan=True)
    linear = loss_along(model, lambda: model(x).mean(), distances=a)
    assert linear.refusal is None
    assert not linear.curvature.any()
    cut = loss_along(model, lambda: Cut.apply(model(x)).mean(), distances=a)
    assert "no graph" in cut.refusal


def test_walls_beyond_what_is_finite():
    model = nn.Linear(1, 1, bias=False).double()
    a = grid(0, 4, 5)

    def loss():
        return (model.weight.square() * 200).exp().sum()

    with torch.no_grad():
        model.weight.zero_()
    curve = loss_along(model, loss, ("weight", (0, 0)), distances=a)
    assert not curve.loss[2:].isfinite().any()
    assert curve.wall.distance == 1


def test_bad_lines():
    model, x = nn.RNN(2, 3), torch.randn(4, 1, 2)

    def loss():
        return model(x)[0].sum()

    cases = [
        (("weight_hh_l0", (0, 3)), "an entry of shape"),
        (("weight_hh_l0", (0,)), "an entry of shape"),
        (("weight", (0, 0)), "unknown parameter"),
        ({"weight_hh_l0": torch.zeros(3, 3)}, "length 0"),
        ({"weight_hh_l0": torch.zeros(3)}, r"the parameter's, \(3, 3\)"),
        ({"other": torch.zeros(3)}, "unknown parameter"),
    ]
    for direction, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            loss_along(model, loss, direction)
    with pytest.raises(errors.ConfigurationError, match="increasing"):
        loss_along(model, loss, distances=torch.tensor([0.0, 1.0, 1.0]))
    with pytest.raises(errors.ConfigurationError, match="a scalar that depends"):
        loss_along(model, lambda: model(x)[0])
    with pytest.raises(errors.ConfigurationError, match="a scalar that depends"):
        loss_along(model, lambda: model(x)[0].detach().sum())
    count = iter(range(100))
    with pytest.raises(errors.ConfigurationError, match="the same value twice"):
        loss_along(model, lambda: model(x)[0].sum() + next(count))
    with pytest.raises(errors.ConfigurationError, match=r"expected \(batch,\)"):
        loss_along(model, loss, per_example=lambda: model(x)[0])
