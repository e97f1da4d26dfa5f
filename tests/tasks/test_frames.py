"""Tasks of frames: averages by hand, the weight of the KL part, the Kalman filter, broken data."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from throughtime.core.density import Bound
from throughtime.core.errors import ConfigurationError, DataError
from throughtime.core.gaussian import DiagonalGaussian
from throughtime.core.latent import Latents
from throughtime.core.scoring import merged
from throughtime.models import build_model
from throughtime.tasks import TASKS, FrameDensity, LinearGaussian
from throughtime.tasks.frames import collated
from throughtime.tasks.kinds import Frames

ONE = np.ones((1, 1), np.float32)


def songs(*lengths: int, value: float = 1.0) -> list[np.ndarray]:
    return [np.full((length, 1), value, np.float32) for length in lengths]


def task(held_out: list[np.ndarray], **options) -> FrameDensity:
    splits = {"training": songs(2, 3), "validation": held_out, "test": held_out}
    return FrameDensity("by-hand", splits, Frames(1, binary=False), **options)


class Counted(nn.Module):
    """The loss of a sequence is the sum of its frames, or of their cubes."""

    def __init__(self, power: int = 1):
        super().__init__()
        self.weight, self.power = nn.Parameter(torch.ones(1)), power

    def log_prob(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        due = torch.arange(len(x))[:, None] < lengths
        return -self.weight * (x[..., 0] ** self.power * due).sum(0)


class Latent(nn.Module):
    """Reconstruction -T, KL 2 T; the importance-weighted estimate gets the number of draws."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def bound(self, x, lengths=None, *, random=None):
        return Bound(-lengths * self.weight, 2 * lengths * self.weight)

    def importance_weighted(self, x, lengths=None, *, samples, random=None):
        return -lengths * samples * self.weight

    def latents(self, x, lengths=None, *, random=None):
        row = torch.zeros(int(lengths.sum()), 2)
        mean = torch.stack([torch.arange(len(row)) / 10, row[:, 0]], 1)
        return Latents(DiagonalGaussian(mean, row + 1), DiagonalGaussian(row, row + 1))


def report(task: FrameDensity, model: nn.Module, size: int) -> dict[str, float]:
    with torch.no_grad():
        scores = [task.score(model, batch).parts for batch in task.batches("test", size)]
    return task.report(merged(scores))


def test_both_averages_of_two_songs():
    """A song of one frame with 5 nats, and one of three frames with 1 nat each: 8/4 and 6/2."""
    pair = task([np.array([[5.0]], np.float32), np.ones((3, 1), np.float32)])
    for size in (1, 2):
        found = report(pair, Counted(), size)
        assert found["loss"] == 2.0
        assert found["mean_over_sequences"] == 3.0
        assert found["nats_per_sequence"] == 4.0
        assert found["kl"] == 0.0
        # residuals l - R T: 5 - 2 and 3 - 6
        assert math.isclose(found["standard_error"], math.sqrt((9 + 9) * 2) / 4)
    examined = pair.examine(Counted(), "test")
    assert examined == {"importance_weighted": 2.0, "active_units": 0, "mutual_information": 0}


def test_the_standard_error_is_that_of_many_test_sets():
    random = np.random.default_rng(0)

    def drawn(count: int) -> list[np.ndarray]:
        lengths = random.integers(1, 9, count)
        return [random.gamma(2.0, 1.0) + random.normal(size=(n, 1)) for n in lengths]

    found = [report(task(drawn(40)), Counted(), 40) for _ in range(300)]
    spread = np.std([each["loss"] for each in found])
    assert 0.85 < np.mean([each["standard_error"] for each in found]) / spread < 1.15
    assert math.isnan(report(task(songs(2)), Counted(), 1)["standard_error"])


@pytest.mark.parametrize(
    ("annealing", "step", "weight"),
    [(0, 0, 1.0), (4, 0, 0.25), (4, 1, 0.5), (4, 3, 1.0), (4, 99, 1.0), (4, None, 1.0)],
)
def test_the_weight_of_the_kl_part(annealing, step, weight):
    given = task(songs(2, 4), annealing=annealing)
    batch = next(given.batches("test", 2))
    score = given.score(Latent(), batch, step=step)
    assert math.isclose(float(score.loss.detach()), 1 + 2 * weight)
    assert math.isclose(score.parts["loss"].value, 1 + 2 * weight)
    if step is None:
        assert score.parts["kl"].value == 2.0


def test_what_is_examined_of_latent_variables():
    found = task(songs(2, 4, 3), samples=7).examine(Latent(), "test")
    assert found["importance_weighted"] == 7.0
    assert found["active_units"] == 1
    assert found["mutual_information"] >= 0


def test_the_last_frames_alone():
    given = task([np.array([[1.0], [7.0]], np.float32), np.array([[3.0]], np.float32)])
    last = given.last_answers(next(given.batches("test", 2)))
    assert last.x.dtype is torch.float64
    score = given.score(Counted().double(), last)
    assert score.parts["loss"].count == 2
    assert score.loss == 5.0


def test_chance_by_hand():
    one, zero = np.ones((3, 2), np.float32), np.zeros((1, 2), np.float32)
    splits = {"training": [one, zero], "validation": [zero], "test": [zero]}
    found = FrameDensity("chance", splits, Frames(2, binary=True))
    assert math.isclose(found.chance_loss, -2 * math.log(2 / 6))
    real = FrameDensity("chance", splits, Frames(2, binary=False))
    deviation = math.sqrt(3) / 4
    each = 0.5 * (0.75 / deviation) ** 2 + math.log(deviation) + 0.5 * math.log(2 * math.pi)
    assert math.isclose(real.chance_loss, 2 * each)


def test_long_training_sequences_are_cut():
    splits = {"training": songs(7, 3), "validation": songs(7), "test": songs(7)}
    found = FrameDensity("cut", splits, Frames(1, binary=False), longest=3)
    assert [len(each) for each in found.sequences["training"]] == [3, 3, 1, 3]
    assert [len(each) for each in found.sequences["test"]] == [7]


def test_batches_are_padded_with_zeros():
    batch = collated(songs(1, 3), torch.tensor([5, 6]))
    assert batch.size == 2
    assert batch.x[:, :, 0].T.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.to(torch.device("cpu")).seeds.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("frames", "kind", "error", "message"),
    [
        ([], Frames(1, binary=False), DataError, "none"),
        ([np.zeros((0, 1))], Frames(1, binary=False), DataError, r"shape \(0, 1\)"),
        ([np.zeros((2, 3))], Frames(1, binary=False), DataError, r"shape \(2, 3\)"),
        ([np.zeros(2)], Frames(1, binary=False), DataError, r"shape \(2,\)"),
        ([np.full((2, 1), math.nan)], Frames(1, binary=False), DataError, "NaN"),
        ([np.full((2, 1), 0.5)], Frames(1, binary=True), ConfigurationError, r"value 0\.5"),
        (
            [np.full((2, 3), 2.0)],
            Frames(3, binary=False, pen=True),
            ConfigurationError,
            "0 and 1 for the pen",
        ),
    ],
)
def test_sequences_that_are_refused(unchecked, frames, kind, error, message):
    with pytest.raises(error, match=message):
        FrameDensity("wrong", {"training": frames, "validation": frames, "test": frames}, kind)


@pytest.mark.parametrize("option", ["annealing=-1", "samples=0"])
def test_options_out_of_range(option):
    with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
        TASKS.build(f"polygons:{option}")


def joint(system: LinearGaussian, time: int) -> np.ndarray:
    """Covariances of all frames: those of the states, plus noise."""
    found = np.zeros((time, 2, time, 2))
    for t in range(time):
        power = np.eye(2)
        for u in range(t, time):
            found[t, :, u] = power.T
            found[u, :, t] = power
            power = system.transition @ power
        found[t, :, t] += system.noise**2 * np.eye(2)
    return found.reshape(2 * time, 2 * time)


def test_the_kalman_filter_is_the_joint_gaussian():
    system = LinearGaussian()
    law = torch.distributions.MultivariateNormal(
        torch.zeros(10).double(), torch.from_numpy(joint(system, 5))
    )
    for seed in range(3):
        x = system.draw(np.random.default_rng(seed), 5)
        expected = float(law.log_prob(torch.from_numpy(x.ravel())))
        assert math.isclose(system.log_likelihood(x), expected, rel_tol=1e-9)


def test_no_model_is_better_than_the_filter():
    given = TASKS.build("linear-gaussian:length=8")
    assert isinstance(given, FrameDensity)
    assert given.goal is not None
    held_out = given.sequences["validation"]
    exact = -sum(map(LinearGaussian().log_likelihood, held_out)) / sum(map(len, held_out))
    assert math.isclose(given.goal, exact + 0.02)
    assert not given.solved({"loss": given.goal + 1e-6})
    assert given.solved({"loss": exact})
    assert exact < given.chance_loss
    torch.manual_seed(0)
    model = build_model("gru:hidden=4", given.inputs, given.answers)
    with torch.no_grad():
        scores = [given.score(model, b).parts for b in given.batches("validation", 128)]
    assert given.report(merged(scores))["loss"] > exact
