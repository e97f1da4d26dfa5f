"""Distant brackets and counting, against reading the symbols one at a time."""

import math

import pytest
import torch
from tasks.drawing import training_batch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import Counting, DistantBrackets


def test_the_bracketed_symbol_is_asked():
    task = DistantBrackets(distance=4, symbols=3)
    batch = training_batch(task, 0, 600, 0)
    seen = set()
    for i in range(600):
        codes = [row.index(1.0) for row in batch.inputs[:, i].tolist()]
        assert codes[0] == 3
        assert codes[-1] == 4
        assert len(codes) == 7
        assert set(codes[1:-1]) <= {0, 1, 2}
        assert batch.targets[i] == codes[1]
        seen.add(tuple(codes[1:-1]))
    assert len(seen) > 200
    assert task.chance == pytest.approx(1 / 3)


@pytest.mark.parametrize("shortest", [1, 3])
def test_strings_have_as_many_a_as_b_and_the_last_b_is_the_end(shortest):
    batch = training_batch(Counting(longest=4, shortest=shortest), 0, 400, 0)
    seen = set()
    for i in range(400):
        letters = "".join(
            "ab"[row.index(1.0)] if 1.0 in row else " " for row in batch.inputs[:, i].tolist()
        )
        n = letters.count("a")
        assert letters == ("a" * n + "b" * n).ljust(8)
        assert batch.lengths[i] == 2 * n
        assert batch.targets[:, i].tolist() == [-1] * n + [0] * (n - 1) + [1] + [-1] * (8 - 2 * n)
        seen.add(n)
    assert seen == set(range(shortest, 5))


@pytest.mark.parametrize("shortest", [1, 5])
def test_chance_of_counting_is_that_of_the_best_constant(shortest):
    task = Counting(longest=8, shortest=shortest)
    batch = training_batch(task, 0, 20_000, 0)
    asked = batch.targets[batch.targets >= 0]
    share = float((asked == 0).float().mean())
    assert task.chance == pytest.approx(share, abs=0.01)
    constant = torch.tensor([math.log(share), math.log(1 - share)]).expand(16, 20_000, 2)
    assert float(task.answers.loss(constant, batch.targets)) == pytest.approx(
        task.chance_loss, abs=0.01
    )
    assert float(task.right(constant, batch.targets).float().mean()) == pytest.approx(share)


@pytest.mark.parametrize(
    ("task", "wrong"),
    [
        (DistantBrackets, {"distance": -1}),
        (DistantBrackets, {"symbols": 1}),
        (Counting, {"longest": 1}),
        (Counting, {"shortest": 0}),
        (Counting, {"longest": 4, "shortest": 4}),
    ],
)
def test_options_out_of_range_are_refused(task, wrong):
    with pytest.raises(ConfigurationError):
        task(**wrong)
