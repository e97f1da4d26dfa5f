"""Parity, against counting."""

import pytest
import torch
from tasks.drawing import training_batch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import TASKS, Parity


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.9])
def test_the_class_is_whether_the_number_of_ones_is_odd(noise):
    batch = training_batch(Parity(length=11, noise=noise), 0, 500, 0)
    lengths = batch.lengths.tolist()
    assert set(lengths) == {6, 7, 8, 9, 10, 11}
    largest = 0.0
    for i in range(500):
        ones = 0
        for x in batch.inputs[: lengths[i], i, 0].tolist():
            ones += x > 0
            largest = max(largest, abs(abs(x) - 1))
        assert int(batch.targets[i]) == (1 if ones % 2 == 1 else 0)
    assert largest <= noise + 1e-6
    assert largest >= 0.95 * noise


def test_noise_is_uniform_and_signs_are_fair():
    inputs = training_batch(Parity(length=40), 0, 2_000, 0).inputs[:20, :, 0].double().flatten()
    assert float((inputs > 0).double().mean()) == pytest.approx(0.5, abs=5 * 0.5 / 200)
    noise = inputs - inputs.sign()
    shares = torch.histc(noise, bins=4, min=-0.2, max=0.2) / len(noise)
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=5 * 0.433 / 200)


def test_flipping_any_input_flips_the_answer():
    task = Parity(length=7, noise=0)
    classes = {}
    for step in range(20):
        batch = training_batch(task, step, 500, 0)
        for i, length in enumerate(batch.lengths.tolist()):
            classes[tuple(batch.inputs[:length, i, 0].tolist())] = int(batch.targets[i])
    assert len(classes) == 2**4 + 2**5 + 2**6 + 2**7
    for signs, label in classes.items():
        for t in range(len(signs)):
            other = (*signs[:t], -signs[t], *signs[t + 1 :])
            assert classes[other] == 1 - label
    assert task.dependency_length == 6


def test_criterion():
    task = Parity()
    assert task.solved({"loss": 0.6, "accuracy": 1.0})
    assert not task.solved({"loss": 0.0, "accuracy": 0.999})
    batch = training_batch(task, 0, 2, 0)
    outputs = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert task.right(outputs, batch.targets).tolist() == [bool(c) for c in batch.targets.tolist()]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("parity:length=1", r"length of task 'parity': got 1, expected at least 2"),
        (
            "parity:noise=1",
            r"noise of task 'parity': got 1\.0, expected a number in \[0, 1\)\. "
            r"More would hide the sign of an input\.",
        ),
        ("parity:noise=nan", r"noise of task 'parity': got nan"),
    ],
)
def test_options_out_of_range(spec, message):
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build(spec)
