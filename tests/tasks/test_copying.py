"""Copying memory, against a reading one step at a time."""

import math

import pytest
import torch
from tasks.drawing import training_batch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import TASKS, Copying


@pytest.mark.parametrize(("length", "items", "symbols"), [(100, 10, 8), (1, 1, 2), (7, 3, 5)])
def test_the_targets_are_the_symbols_said_again(length, items, symbols):
    task = Copying(length=length, items=items, symbols=symbols)
    batch = training_batch(task, 0, 50, 0)
    assert batch.lengths is None
    assert batch.inputs.shape == (length + 2 * items, 50, symbols + 2)
    assert task.answers.count == symbols + 1
    for i in range(50):
        codes = []
        for row in batch.inputs[:, i].tolist():
            assert sorted(row) == [0.0] * (symbols + 1) + [1.0]
            codes.append(row.index(1.0))
        said = codes[:items]
        assert all(1 <= code <= symbols for code in said)
        assert codes[items:] == [0] * (length - 1) + [symbols + 1] + [0] * items
        assert batch.targets[:, i].tolist() == [0] * (length + items) + said


def test_symbols_are_uniform():
    targets = training_batch(Copying(length=1), 0, 4_000, 0).targets[-10:].flatten()
    shares = torch.bincount(targets, minlength=9) / len(targets)
    assert shares.tolist() == pytest.approx([0] + [1 / 8] * 8, abs=5 * math.sqrt(7 / 64 / 40_000))


@pytest.mark.parametrize(
    ("length", "published"),
    [(100, 0.1733), (200, 0.0945), (300, 0.0650), (500, 0.0400), (1000, 0.0204), (2000, 0.0103)],
)
def test_chance_loss_is_the_published_baseline(length, published):
    assert Copying(length=length).chance_loss == pytest.approx(published, abs=5e-5)


def test_every_symbol_waits_as_long():
    assert Copying(length=100).dependency_length == 110


def test_accuracy_is_of_the_recalled_symbols_and_the_criterion_of_the_loss():
    task = Copying(length=3, items=2, symbols=3)
    batch = training_batch(task, 0, 5, 0)
    outputs = torch.zeros(7, 5, 4)  # the blanks are all wrong
    outputs[:, :, 3] = 1
    outputs[-2:] = torch.nn.functional.one_hot(batch.targets[-2:], 4).float()
    outputs[-1, 0] = torch.tensor([9.0, 0, 0, 0])
    expected = [[True] * 5, [False] + [True] * 4]
    assert task.right(outputs, batch.targets).tolist() == expected
    assert task.solved({"loss": 0.099 * task.chance_loss, "accuracy": 0.0})
    assert not task.solved({"loss": 0.101 * task.chance_loss, "accuracy": 1.0})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("copying:length=0", r"length of task 'copying': got 0, expected at least 1"),
        ("copying:items=0", r"items of task 'copying': got 0, expected at least 1"),
        ("copying:symbols=1", r"symbols of task 'copying': got 1, expected at least 2"),
    ],
)
def test_options_out_of_range(spec, message):
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build(spec)
