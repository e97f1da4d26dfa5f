"""Latch and two-sequence, against readings of the raw inputs one number at a time."""

import math

import pytest
import torch
from tasks.drawing import training_batch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import TASKS, Latch, TwoSequence


def test_latch_opening_tells_the_class():
    task = Latch(length=9, informative=2, noise=0.2)
    batch = training_batch(task, 0, 200, 0)
    assert batch.lengths is None
    for i in range(200):
        rows = batch.inputs[:, i].tolist()
        first_channels = [channel for channel in range(5) if rows[0][channel] != 0]
        classes = {0: 0, 2: 1}
        assert len(first_channels) == 1
        label = classes[first_channels[0]]
        for t, row in enumerate(rows):
            for channel, value in enumerate(row):
                if t < 2:
                    assert value == (1.0 if channel == 2 * label + t else 0.0)
                elif channel < 4:
                    assert value == 0.0
                else:
                    assert value != 0.0
        assert batch.targets[i, 0] == torch.tensor(0.8 if label else -0.8)
    assert set(batch.targets[:, 0].tolist()) == {
        torch.tensor(0.8).item(),
        torch.tensor(-0.8).item(),
    }


def test_a_unit_with_the_papers_weights_latches_as_its_theory_says():
    """w = 2.5, noise of variance 0.2: P(the sign is kept for 100 steps) > 0.999 from a_0 = 1.5."""
    task = Latch(length=101, informative=1, noise=0.2)
    inputs = training_batch(task, 0, 2_000, 0).inputs
    weights = torch.tensor([-1.5, 1.5, 1.0])  # h^0, h^1, and 1 for the noise
    activation = torch.zeros(2_000)
    for x in inputs:
        activation = 2.5 * activation.tanh() + x @ weights
    batch = training_batch(task, 0, 2_000, 0)
    assert float(task.right(activation.tanh()[:, None], batch.targets).float().mean()) > 0.998


@pytest.mark.parametrize("name", ["latch", "two-sequence"])
@pytest.mark.parametrize(
    ("options", "variance"),
    [("", 0.2), (",noise_is=std", 0.04), (",noise=0.5", 0.5), (",noise=0.5,noise_is=std", 0.25)],
)
def test_noise_is_gaussian_of_the_size_asked_for(name, options, variance):
    task = TASKS.build(f"{name}:length=40{options}")
    noise = training_batch(task, 0, 2_000, 0).inputs[3:40, :, -1].double().flatten()
    count, deviation = len(noise), math.sqrt(variance)
    assert abs(float(noise.mean())) < 5 * deviation / math.sqrt(count)
    assert float((noise**2).mean()) == pytest.approx(variance, rel=5 * math.sqrt(2 / count))
    for bound, probability in ((0.5, 0.38292), (1, 0.68269), (2, 0.95450)):
        inside = float((noise.abs() < bound * deviation).double().mean())
        assert inside == pytest.approx(probability, abs=5 * math.sqrt(0.25 / count))


def test_noise_may_be_zero():
    inputs = training_batch(TwoSequence(length=20, noise=0), 0, 8, 0).inputs
    assert not inputs[3:].any()


@pytest.mark.parametrize("informative", [1, 3])
def test_two_sequence_starts_tell_the_class(informative):
    task = TwoSequence(length=20, informative=informative)
    batch = training_batch(task, 0, 300, 0)
    assert task.length == 22
    lengths = batch.lengths.tolist()
    assert set(lengths) == {20, 21, 22}
    for i in range(300):
        values = batch.inputs[:, i, 0].tolist()
        assert values[0] in (1.0, -1.0)
        assert values[:informative] == [values[0]] * informative
        assert all(value != 0 for value in values[: lengths[i]])
        assert all(value == 0 for value in values[lengths[i] :])
        assert batch.targets[i].tolist() == [1.0 if values[0] == 1 else 0.0]


def test_two_sequence_tolerance_and_criterion():
    task = TwoSequence(length=20)
    batch = training_batch(task, 0, 4, 0)
    off = torch.tensor([[0.19], [-0.19], [0.21], [-0.21]])
    assert task.right(batch.targets + off, batch.targets).tolist() == [True, True, False, False]
    assert task.solved({"loss": 0.0, "accuracy": 1.0})
    assert not task.solved({"loss": 0.0, "accuracy": 1023 / 1024})


def test_latch_tolerance_and_criterion():
    task = Latch()
    batch = training_batch(task, 0, 4, 0)
    assert task.right(batch.targets * 0.01, batch.targets).tolist() == [True] * 4
    assert task.right(-batch.targets, batch.targets).tolist() == [False] * 4
    assert task.solved({"loss": 0.5, "accuracy": 0.99})
    assert not task.solved({"loss": 0.0, "accuracy": 0.989})


def test_dependency_length_is_the_longest_way_from_the_first_input():
    assert Latch(length=50).dependency_length == 49
    assert TwoSequence(length=100).dependency_length == 109


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "latch:length=3",
            r"length of task 'latch': got 3, expected at least 4\. "
            r"The first 3 steps tell the class and noise must follow\.",
        ),
        (
            "two-sequence:length=1,informative=1",
            r"length of task 'two-sequence': got 1, expected at least 2",
        ),
        ("latch:informative=0", r"informative of task 'latch': got 0, expected at least 1"),
        ("latch:noise=-0.1", r"noise of task 'latch': got -0\.1, expected a number of at least 0"),
        (
            "two-sequence:noise=inf",
            r"noise of task 'two-sequence': got inf, expected a number of at least 0",
        ),
        (
            "two-sequence:noise=nan",
            r"noise of task 'two-sequence': got nan, expected a number of at least 0",
        ),
        (
            "latch:noise_is=deviation",
            r"noise_is of task 'latch': got 'deviation', expected one of variance, std",
        ),
    ],
)
def test_options_out_of_range(spec, message):
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build(spec)
