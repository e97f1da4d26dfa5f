"""Distributions of frames: against torch.distributions, enumeration and integrals."""

import itertools

import pytest
import torch
from torch import Tensor
from torch import distributions as laws

from throughtime.core.latent import Draws
from throughtime.models import BernoulliOutput, GaussianOutput, NADEOutput, PenOutput
from throughtime.models.frame_outputs import FrameOutput


def features(rows: int = 3, width: int = 4) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_nade_is_the_product_of_its_conditionals(engine: str, monkeypatch: pytest.MonkeyPatch):
    """A loop over the values of one frame; both engines."""
    from throughtime.engines import autoregression as module
    from throughtime.models import frame_outputs

    monkeypatch.setattr(
        frame_outputs,
        "autoregression",
        lambda *tensors: module.autoregression(*tensors, engine=engine),
    )
    output, rows = NADEOutput(4, 5, units=3).double(), features()
    x = (torch.rand(3, 5) < 0.5).double()
    found = output.log_prob(rows, x)
    for row in range(3):
        a, total = output.initial(rows[row]), torch.tensor(0.0).double()
        b = output.logits(rows[row])
        for i in range(5):
            p = (b[i] + output.readout[i] @ a.sigmoid()).sigmoid()
            total = total + (p if x[row, i] == 1 else 1 - p).log()
            a = a + x[row, i] * output.weight[i]
        assert torch.allclose(found[row], total, atol=1e-12)


@pytest.mark.parametrize("output", [BernoulliOutput(4, 6), NADEOutput(4, 6, units=3)])
def test_probabilities_of_all_binary_frames_sum_to_one(output: FrameOutput):
    x = torch.tensor([*itertools.product((0.0, 1.0), repeat=6)]).double()
    one = features(1).expand(len(x), -1)
    with torch.no_grad():
        total = output.double().log_prob(one, x).exp().sum()
    assert abs(float(total) - 1) < 1e-12


def test_a_gaussian_is_that_of_torch():
    output, x = GaussianOutput(4, 2, components=3).double(), torch.randn(3, 2).double()
    weights, means, scales = output.mixture(features())
    each = laws.Independent(laws.Normal(means, scales), 1)
    expected = laws.MixtureSameFamily(laws.Categorical(logits=weights), each).log_prob(x)
    assert torch.allclose(output.log_prob(features(), x), expected, atol=1e-12)


def test_a_pen_stroke_is_that_of_torch():
    output, x = PenOutput(4, components=2).double(), torch.randn(3, 3).double()
    x[:, 2] = torch.tensor([0.0, 1.0, 1.0])
    weights, means, scales, rho, pen = output.mixture(features())
    rows = torch.stack([scales[..., 0] ** 2, rho * scales.prod(-1)], -1)
    below = torch.stack([rho * scales.prod(-1), scales[..., 1] ** 2], -1)
    each = laws.MultivariateNormal(means, covariance_matrix=torch.stack([rows, below], -2))
    movement = laws.MixtureSameFamily(laws.Categorical(logits=weights), each)
    expected = movement.log_prob(x[:, :2]) + laws.Bernoulli(logits=pen).log_prob(x[:, 2])
    assert torch.allclose(output.log_prob(features(), x), expected, atol=1e-10)


@pytest.mark.parametrize(
    "output",
    [
        BernoulliOutput(4, 3),
        GaussianOutput(4, 3, components=2),
        PenOutput(4, components=2),
        NADEOutput(4, 3, units=5),
    ],
)
def test_samples_have_the_moments_of_the_density(output: FrameOutput):
    """Means and second moments, from importance weights of a wide law that is not the model's."""
    count = 20_000
    one = features(1).expand(count, -1)
    output = output.double()
    with torch.no_grad():
        for parameter in output.parameters():
            parameter.mul_(1.5)
        drawn = output.sample(one, Draws(torch.arange(count), count, one))
        if output.binary:
            proposal: laws.Distribution = laws.Bernoulli(torch.full((3,), 0.5).double())
            x = proposal.sample((count,))
            log_q = proposal.log_prob(x).sum(-1)
        else:
            wide = laws.Normal(torch.zeros(3).double(), 2.5)
            x = wide.sample((count,))
            log_q = wide.log_prob(x).sum(-1)
            if isinstance(output, PenOutput):
                coin = laws.Bernoulli(torch.tensor(0.5).double())
                x[:, 2] = coin.sample((count,))
                log_q = wide.log_prob(x)[:, :2].sum(-1) + coin.log_prob(x[:, 2])
        weights = (output.log_prob(one, x) - log_q).exp()
    assert abs(float(weights.mean()) - 1) < 5 * float(weights.std()) / count**0.5
    products = [lambda v: v, lambda v: v * v.roll(1, -1), lambda v: v * v]
    for product in products:
        terms, expected = product(drawn), weights[:, None] * product(x)
        error = ((terms.var(0) + expected.var(0)) / count).sqrt()
        assert bool(((terms.mean(0) - expected.mean(0)).abs() < 5 * error).all())
