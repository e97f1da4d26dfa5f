"""Random estimates of the gradient are right in the mean, and the test would see it if not."""

import math

import pytest
import torch
from learning.test_learners import model_of
from torch import Tensor

from throughtime.cells import ElmanCell, GRUCell, LeakyCell, LSTMCell
from throughtime.learning import KFRTRL, RTRL, UORO, Chunk, Learner, NoBackTrack, unbiased

GROUPS, ROWS, TIME, WIDTH = 25, 4000, 3, 2
LEVEL = 1e-3  # of the family of all parameters of a cell
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")
CELLS = {
    "elman": lambda: ElmanCell(WIDTH, 3),
    "lstm": lambda: LSTMCell(WIDTH, 3),
    "leaky": lambda: LeakyCell(WIDTH, 3, rate=0.5),
    "gru": lambda: GRUCell(WIDTH, 3),
}


def estimates(learner: Learner, name: str) -> tuple[Tensor, Tensor]:
    """Means over groups of draws, (groups, parameters), and the gradient by RTRL."""
    torch.manual_seed(0)
    model = model_of(CELLS[name]())
    x, y = torch.randn(TIME, 1, WIDTH).double(), torch.randn(TIME, 1, 2).double()
    exact = RTRL().update(model, RTRL().init(model, 1), Chunk(x, y)).gradients
    many = Chunk(x.expand(-1, ROWS, -1), y.expand(-1, ROWS, -1))
    found = [
        learner.update(model, learner.init(model, ROWS, seed=seed), many).gradients
        for seed in range(GROUPS)
    ]
    own = [key for key in exact if key.startswith("cell.")]

    def flat(gradients: dict[str, Tensor]) -> Tensor:
        return torch.cat([gradients[key].flatten() for key in own])

    return torch.stack([flat(gradients) for gradients in found]), flat(exact)


def p_value(means: Tensor, exact: Tensor) -> float:
    """Of all parameters together: Student's t of each, and Bonferroni's inequality."""
    error = means.std(0) / math.sqrt(len(means))
    difference = (means.mean(0) - exact).abs()
    difference[difference < 1e-12 * exact.abs().max()] = 0.0  # rounding, where all draws agree
    t = float((difference / error.clamp(min=1e-300)).max())
    freedom = len(means) - 1
    assert freedom % 2 == 0  # then its distribution is a finite sum (Abramowitz and Stegun 26.7.4)
    angle = math.atan(t / math.sqrt(freedom))
    term, total = 1.0, 0.0
    for k in range(freedom // 2):
        total += term
        term *= math.cos(angle) ** 2 * (2 * k + 1) / (2 * k + 2)
    return min(1.0, (1 - math.sin(angle) * total) * len(exact))


def test_the_distribution_of_t() -> None:
    """Known quantiles: 24 degrees of freedom, two sides of 5 % and 0.1 %."""
    for t, p in ((2.063899, 0.05), (3.745399, 0.001)):
        means = torch.full((25, 1), t) + torch.linspace(-1, 1, 25)[:, None].double()
        error = means.std(0) / 5
        shifted = means - t + t * error
        assert abs(p_value(shifted, torch.zeros(1).double()) - p) < 1e-6


@pytest.mark.parametrize(
    ("learner", "name"),
    [
        *((UORO(), name) for name in ("elman", "lstm", "gru")),
        *((NoBackTrack(), name) for name in ("elman", "lstm", "gru")),
        *((KFRTRL(), name) for name in ("elman", "lstm", "leaky")),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_the_mean_of_a_hundred_thousand_draws_is_the_gradient(learner: Learner, name: str) -> None:
    means, exact = estimates(learner, name)
    mean = means.mean(0)
    assert float(mean @ exact / (mean.norm() * exact.norm())) >= 0.99
    assert p_value(means, exact) > LEVEL
    spread = float((means - exact).norm(dim=1).mean() * math.sqrt(ROWS) / exact.norm())
    assert 0.01 < spread < 100  # of one draw, relative to the gradient: it is an estimate


def test_a_biased_estimate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs that lean a little to one side."""

    def leaning(shape, like, random):
        return (torch.rand(shape, generator=random) < 0.6).to(like) * 2 - 1

    monkeypatch.setattr(unbiased, "_signs", leaning)
    means, exact = estimates(UORO(), "elman")
    assert p_value(means, exact) < LEVEL
