"""VRNN: the suite, exact answers on a linear-Gaussian system, and naive draws of one sequence."""

import math

import pytest
import torch
from torch import Tensor, nn

from throughtime import LSTM, Recurrent
from throughtime.cells import ElmanCell
from throughtime.core.errors import ConfigurationError, DataError, ShapeError
from throughtime.models import VRNN, BernoulliOutput, GaussianOutput, NADEOutput, build_model
from throughtime.models.vrnn import VRNNCell
from throughtime.tasks.kinds import Frames, Likelihood, Vectors
from throughtime.testing import LatentConformance


def drawn(width: int, *, binary: bool = False) -> tuple[Tensor, Tensor]:
    x = torch.randn(5, 3, width, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([5, 1, 3])
    return ((x > 0).float() if binary else x), lengths


def lstm(inputs: int, layers: int = 1) -> LSTM:
    return LSTM(inputs, 5, layers, engine="eager")


class TestGaussian(LatentConformance):
    def make_model(self) -> nn.Module:
        return VRNN(lstm(8), GaussianOutput(4, 2, components=2), latent=2, features=4)

    def make_items(self) -> tuple[Tensor, Tensor]:
        return drawn(2)


class TestBernoulli(LatentConformance):
    def make_model(self) -> nn.Module:
        return VRNN(lstm(8, 2), BernoulliOutput(4, 3), latent=1, features=4)

    def make_items(self) -> tuple[Tensor, Tensor]:
        return drawn(3, binary=True)


class TestNADE(LatentConformance):
    def make_model(self) -> nn.Module:
        kind = Frames(3, binary=True)
        return build_model(
            "vrnn:cell=rnn,hidden=5,engine=eager,latent=2,features=4,nade=3", kind, Likelihood()
        )

    def make_items(self) -> tuple[Tensor, Tensor]:
        return drawn(3, binary=True)


class TestZoneout(LatentConformance):
    """A cell with random masks, which are means in evaluation."""

    def make_model(self) -> nn.Module:
        kind, text = (
            Frames(2, binary=False),
            "vrnn:cell=lstm-zoneout,hidden=5,engine=eager,latent=2,features=4",
        )
        return build_model(text, kind, Likelihood())

    def make_items(self) -> tuple[Tensor, Tensor]:
        return drawn(2)


DECAY, NOISE = 0.9, 0.7


def step_of(model: VRNN) -> VRNNCell:
    cell = model.recurrent.as_cell()
    assert isinstance(cell, VRNNCell)
    return cell


def steady() -> tuple[float, float]:
    """Variance of s_t given x_<t, and the gain of the Kalman filter, both steady."""
    variance = 1.0
    for _ in range(1000):
        gain = variance / (variance + NOISE**2)
        variance = DECAY**2 * (1 - gain) * variance + 1 - DECAY**2
    return variance, variance / (variance + NOISE**2)


def covariance(time: int) -> Tensor:
    """Covariances of x_1 ... x_time, where s_1 has the steady variance of the filter."""
    states = torch.zeros(time, time).double()
    variance = steady()[0]
    for t in range(time):
        for u in range(t, time):
            states[t, u] = states[u, t] = DECAY ** (u - t) * variance
        variance = DECAY**2 * variance + 1 - DECAY**2
    return states + NOISE**2 * torch.eye(time).double()


def linear_gaussian() -> VRNN:
    """A VRNN whose h_{t-1} is the filter's mean of s_t, with the exact posterior of z_t = s_t.

    Lines come from pairs of rectified units: v = relu(v) - relu(-v).
    """
    cell = Recurrent(ElmanCell, 8, 1, nonlinearity="identity", engine="eager")
    model = VRNN(cell, GaussianOutput(4, 1), latent=1, features=4).double()
    variance, gain = steady()
    pair = torch.tensor([1.0, -1.0, 0.0, 0.0]).double()
    other = pair.flip(0)  # -v at the third unit, v at the fourth

    def raw(deviation: float) -> float:
        return math.log(math.expm1(deviation - 1e-4))

    step = step_of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.read_x[0].weight[:, 0] = step.read_z.weight[:, 0] = pair
        weights, recurrent = step.cell.weight_ih, step.cell.weight_hh
        weights[0, :4] = DECAY * gain * pair
        recurrent[0, 0] = DECAY * (1 - gain)
        model.prior[0].weight[:, 0] = pair
        model.prior[2].weight[0] = pair
        model.prior[2].bias[1] = raw(math.sqrt(variance))
        step.posterior_x.weight[:2, :2] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        step.posterior_h.weight[:, 0] = other
        step.posterior.weight[0] = gain * pair + (1 - gain) * other
        step.posterior.bias[1] = raw(math.sqrt((1 - gain) * variance))
        model.between_z.weight[:2, :2] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        model.output.parameters_of.weight[1] = pair
        model.output.parameters_of.bias[2] = raw(NOISE)
    return model.requires_grad_(False)


@pytest.fixture
def sequences() -> tuple[Tensor, Tensor]:
    """Frames of five sequences of six, and the log-density of each."""
    factor = torch.linalg.cholesky(covariance(6))
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
    law = torch.distributions.MultivariateNormal(torch.zeros(6).double(), covariance(6))
    x = factor @ z
    return x[..., None], law.log_prob(x.T)


def test_at_the_exact_posterior_the_bound_is_the_likelihood(sequences):
    x, exact = sequences
    model = linear_gaussian()
    for samples in (1, 7):
        for seed in (0, 50):
            seeds = seed + torch.arange(5)
            found = model.importance_weighted(x, samples=samples, random=seeds)
            assert torch.allclose(found, exact, atol=1e-9)
    many = x.repeat(1, 4000, 1)
    bound = model.bound(many, random=torch.arange(20_000))
    each = (bound.reconstruction - bound.kl).view(4000, 5)
    error = each.std(0) / math.sqrt(4000)
    assert bool(((each.mean(0) - exact).abs() < 5 * error).all())


def test_at_another_posterior_the_bound_is_lower(sequences):
    x, exact = sequences
    model = linear_gaussian()
    step = step_of(model)
    step.posterior.bias[0] = 0.3
    step.posterior.bias[1] += 0.5
    many = x.repeat(1, 2000, 1)
    bound = model.bound(many, random=torch.arange(10_000))
    gap = exact - (bound.reconstruction - bound.kl).view(2000, 5).mean(0)
    assert bool((gap > 0.3).all())
    for samples, least in ((10, 0.0), (200, -0.02)):
        weighted = model.importance_weighted(
            many[:, :500], samples=samples, random=torch.arange(500)
        )
        now = exact - weighted.view(100, 5).mean(0)
        assert bool((now < gap).all())
        assert bool((now > least).all())
        gap = now


def test_sampled_frames_are_read_and_not_their_means():
    """Covariances over time of the frames; with means fed back they would be smaller."""
    count = 40_000
    torch.manual_seed(0)
    x = linear_gaussian().sample(count, 4)[..., 0]
    expected = covariance(4)
    found = x @ x.T / count
    spread = (expected.square() + expected.diag()[:, None] * expected.diag()) / count
    assert bool(((found - expected).abs() < 5 * spread.sqrt()).all())
    assert bool((x.mean(1).abs() < 5 * (expected.diag() / count).sqrt()).all())


def naive(model: VRNN, generator: torch.Generator, length: int) -> Tensor:
    """Draw one sequence with the modules alone, in the order of the paper's equations."""
    outer = step_of(model)
    cell = outer.cell
    state = cell.initial_state(1, dtype=torch.float64, device=torch.device("cpu"))
    h, found = torch.zeros(1, 5).double(), []
    for _ in range(length):
        mean, raw = model.prior(h).chunk(2, -1)
        deviation = nn.functional.softplus(raw) + 1e-4
        z = mean + deviation * torch.randn(1, 2, generator=generator).double()
        read = outer.read_z(z).relu()
        logits = model.output.logits((model.between_z(read) + model.between_h(h)).relu())
        x = (torch.rand(1, 2, generator=generator) < logits.sigmoid()).double()
        h, state = cell.step(cell.project(torch.cat([model.read_x(x), read], -1)), state)
        found.append(x)
    return torch.stack(found)[:, 0]


def test_samples_have_the_statistics_of_naive_draws():
    torch.manual_seed(0)
    model = VRNN(lstm(8), BernoulliOutput(4, 2), latent=2, features=4).double()
    model.requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(2)
    generator = torch.Generator().manual_seed(0)
    slow = torch.stack([naive(model, generator, 3).flatten() for _ in range(800)])
    fast = model.sample(20_000, 3).transpose(0, 1).flatten(1)
    for terms in (lambda v: v, lambda v: v * v.roll(1, 1), lambda v: v * v.roll(2, 1)):
        one, other = terms(slow), terms(fast)
        error = (one.var(0) / len(one) + other.var(0) / len(other)).sqrt() + 1e-9
        assert bool(((one.mean(0) - other.mean(0)).abs() < 5 * error).all())


def test_known_frames_are_kept_and_continued():
    model = linear_gaussian()
    known = torch.tensor([[[4.0]], [[4.0]]]).double()
    x = model.sample(3000, 3, known=known, random=torch.arange(3000))
    assert torch.equal(x[:2], known.expand(2, 3000, 1))
    law, given = covariance(3), torch.full((2,), 4.0).double()
    inverse = torch.linalg.inv(law[:2, :2])
    mean, variance = law[2, :2] @ inverse @ given, law[2, 2] - law[2, :2] @ inverse @ law[:2, 2]
    assert abs(float(x[2].mean() - mean)) < 5 * math.sqrt(float(variance) / 3000)


def test_draws_of_one_sequence_do_not_depend_on_the_others():
    torch.manual_seed(0)
    model = VRNN(lstm(8), NADEOutput(4, 3, 2), latent=2, features=4).eval()
    seeds = torch.tensor([4, 9])
    both = model.sample(2, 4, random=seeds)
    assert torch.allclose(model.sample(1, 4, random=seeds[1:])[:, 0], both[:, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vrnn:latent=0", "latent"),
        ("vrnn:features=0", "features"),
        ("vrnn:bidirectional=true", "bidirectional"),
        ("vrnn:layers=2,dropout=0.5", "dropout"),
        ("vrnn:nade=5", "real numbers"),
        ("vrnn:components=0", "components"),
    ],
)
def test_models_that_cannot_be(text, message):
    with pytest.raises(ConfigurationError, match=message):
        build_model(text, Frames(2, binary=False), Likelihood())


def test_frames_that_cannot_be_scored(unchecked):
    kind = Frames(2, binary=True)
    model = build_model("vrnn:hidden=3,engine=eager,latent=1,features=3", kind, Likelihood())
    with pytest.raises(ConfigurationError, match=r"value 0\.5.*0 and 1"):
        model.bound(torch.full((3, 1, 2), 0.5))
    with pytest.raises(ShapeError, match=r"\(time, batch, 2\)"):
        model.bound(torch.zeros(3, 2))
    with pytest.raises(DataError, match="0 frames"):
        model.bound(torch.zeros(0, 1, 2))
    with pytest.raises(ConfigurationError, match="samples"):
        model.importance_weighted(torch.zeros(3, 1, 2), samples=0)
    with pytest.raises(ConfigurationError, match="mixtures"):
        build_model("vrnn:components=2", kind, Likelihood())
    with pytest.raises(ConfigurationError, match="sequences of frames"):
        build_model("vrnn", Vectors(2), Likelihood())
    with pytest.raises(ConfigurationError, match=r"expected 8"):
        VRNN(lstm(7), GaussianOutput(4, 2), latent=2, features=4)


def test_the_native_engine_runs_it():
    """Bound and gradients of the compiled step and of the eager loop."""
    x, lengths = drawn(2)
    found: list[list[Tensor]] = []
    for engine in ("eager", "native"):
        torch.manual_seed(0)
        output = GaussianOutput(4, 2)
        model = VRNN(LSTM(8, 5, engine=engine), output, latent=2, features=4).double()
        bound = model.bound(x.double(), lengths, random=torch.tensor([3, 1, 2]))
        loss = (bound.kl - bound.reconstruction).sum()
        found.append([loss.detach(), *torch.autograd.grad(loss, [*model.parameters()])])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-9)
