"""Temporal order, against reading the symbols one at a time."""

import math

import pytest
import torch
from tasks.drawing import training_batch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import TASKS, PascanuTemporalOrder, TemporalOrder

LETTERS = "EBabcdXY"
# The classes of tasks 6a and 6b in the paper's order: Q R S U, and Q R S U V A B C.
CLASSES = {
    2: ["XX", "XY", "YX", "YY"],
    3: ["XXX", "XXY", "XYX", "XYY", "YXX", "YXY", "YYX", "YYY"],
}


def text(batch, i: int) -> str:
    letters = []
    for row in batch.inputs[:, i].tolist():
        assert sorted(row) in ([0.0] * 7 + [1.0], [0.0] * 8)
        letters.append(LETTERS[row.index(1.0)] if 1.0 in row else " ")
    return "".join(letters)


@pytest.mark.parametrize(
    ("length", "symbols", "stretches"),
    [
        (100, 2, [(10, 20), (50, 60)]),
        (100, 3, [(10, 20), (33, 43), (66, 76)]),
        (10, 2, [(1, 2), (5, 6)]),
        (10, 3, [(1, 2), (3, 4), (6, 7)]),
        (19, 3, [(1, 2), (6, 7), (12, 13)]),
    ],
)
def test_symbols_places_and_classes_are_the_papers(length, symbols, stretches):
    task = TemporalOrder(length=length, symbols=symbols)
    batch = training_batch(task, 0, 1_500, 0)
    places = [set() for _ in range(symbols)]
    seen = set()
    for i, steps in enumerate(batch.lengths.tolist()):
        assert length <= steps <= length + length // 10
        letters = text(batch, i)
        assert letters[0] == "E"
        assert letters[steps - 1] == "B"
        assert letters[steps:] == " " * (task.length - steps)
        order = ""
        for t in range(1, steps - 1):
            if letters[t] in "XY":
                places[len(order)].add(t)
                order += letters[t]
            else:
                assert letters[t] in "abcd"
        assert CLASSES[symbols][int(batch.targets[i])] == order
        seen.add(order)
    assert seen == set(CLASSES[symbols])
    assert places == [set(range(first, last + 1)) for first, last in stretches]


def test_classes_lengths_and_distractors_are_uniform():
    batch = training_batch(TemporalOrder(length=20, symbols=3), 0, 8_000, 0)
    shares = torch.bincount(batch.targets) / 8_000
    assert shares.tolist() == pytest.approx([1 / 8] * 8, abs=5 * math.sqrt(7 / 64 / 8_000))
    shares = torch.bincount(batch.lengths - 20) / 8_000
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.027)
    distractors = batch.inputs[1, :, 2:6].mean(dim=0)  # the second step is before any symbol
    assert distractors.tolist() == pytest.approx([0.25] * 4, abs=0.025)


def test_dependency_length_is_from_the_first_place_to_the_last_step():
    for symbols in (2, 3):
        task = TemporalOrder(length=100, symbols=symbols)
        assert (task.length, task.dependency_length) == (110, 109 - 10)


def test_right_means_every_probability_within_a_third():
    task = TemporalOrder(length=20)
    batch = training_batch(task, 0, 4, 0)

    def outputs(probability: float) -> torch.Tensor:
        rest = (1 - probability) / 3
        table = torch.full((4, 4), rest)
        table[torch.arange(4), batch.targets] = probability
        return table.log()

    assert task.right(outputs(0.71), batch.targets).tolist() == [True] * 4
    assert task.right(outputs(0.69), batch.targets).tolist() == [False] * 4
    assert task.solved({"loss": 0.099, "accuracy": 1.0})
    assert not task.solved({"loss": 0.101, "accuracy": 1.0})
    assert not task.solved({"loss": 0.0, "accuracy": 0.9999})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("temporal-order:symbols=4", r"symbols of task 'temporal-order': got 4, expected 2 or 3"),
        (
            "temporal-order:length=9",
            r"length of task 'temporal-order': got 9, expected at least 10\. "
            r"The symbols stand in stretches of a tenth of the length, apart from each other\.",
        ),
    ],
)
def test_options_out_of_range(spec, message):
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build(spec)


@pytest.mark.parametrize("length", [10, 19, 100])
def test_in_2013_two_of_six_symbols_decide_and_every_sequence_is_as_long(length):
    task = TASKS.build(f"temporal-order:form=pascanu,length={length}")
    assert isinstance(task, PascanuTemporalOrder)
    batch = training_batch(task, 0, 2_000, 0)
    assert batch.inputs.shape == (length, 2_000, 6)
    assert (batch.inputs.sum(dim=2) == 1).all()
    where = batch.inputs[:, :, :2].sum(dim=2)
    assert (where.sum(dim=0) == 2).all()
    tenth, half = length // 10, length // 2
    steps = set(where.any(dim=1).nonzero()[:, 0].tolist())
    assert steps == {*range(tenth, 2 * tenth), *range(half, half + tenth)}
    for i in range(50):
        marked = batch.inputs[where[:, i] == 1, i]
        assert int(batch.targets[i]) == int(2 * marked[0, 1] + marked[1, 1])
    shares = torch.bincount(batch.targets, minlength=4) / 2_000
    assert shares.tolist() == pytest.approx([1 / 4] * 4, abs=5 * math.sqrt(3 / 16 / 2_000))
    assert task.solved({"accuracy": 0.991})
    assert not task.solved({"accuracy": 0.99})


def test_the_form_of_2013_has_two_symbols_and_there_is_no_third_form():
    with pytest.raises(ConfigurationError, match="got 3, expected 2"):
        TASKS.build("temporal-order:form=pascanu,symbols=3")
    with pytest.raises(ConfigurationError, match="got 9, expected at least 10"):
        TASKS.build("temporal-order:form=pascanu,length=9")
    with pytest.raises(ConfigurationError, match="expected one of hochreiter, pascanu"):
        TASKS.build("temporal-order:form=other")
