"""The signal that is said by heart."""

import pytest
import torch
from tasks.drawing import training_batch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import Wave
from throughtime.training.evaluation import evaluate


def test_the_signal_is_one_and_the_same() -> None:
    task = Wave(length=50)
    batch = training_batch(task, 7, 3, seed=5)
    assert batch.inputs.shape == batch.targets.shape == (50, 3, 1)
    assert not batch.inputs.any()
    assert torch.equal(batch.targets[:, 0], batch.targets[:, 2])
    assert torch.equal(batch.targets, training_batch(task, 0, 3, seed=0).targets)
    (held_out,) = task.batches("test", 64)
    assert torch.equal(held_out.targets[:, 0], batch.targets[:, 0])
    assert not torch.equal(Wave(length=50, waveform=1).signal, task.signal)


def test_chance_is_the_mean() -> None:
    task = Wave()
    assert float(task.signal.abs().max()) == pytest.approx(1.0)
    assert float(task.signal.mean()) == pytest.approx(0.0, abs=1e-6)

    class Mean(torch.nn.Module):
        def forward(self, inputs, lengths):
            return torch.zeros_like(inputs)

    found = evaluate(Mean(), task, task.batches("test", 4), torch.device("cpu"))
    assert found["loss"] == pytest.approx(task.chance_loss, rel=1e-5)
    assert found["accuracy"] == pytest.approx(task.chance)
    assert not task.solved(found)
    assert task.solved({"loss": 0.0, "accuracy": 1.0})


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="length of task"):
        Wave(length=3)
    with pytest.raises(ConfigurationError, match="sinusoids of task"):
        Wave(sinusoids=0)
