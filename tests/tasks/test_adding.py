"""Adding and multiplication, against reading the pairs one at a time."""

import collections

import pytest
import torch
from tasks.drawing import training_batch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import TASKS, HochreiterAdding, Multiplication, UnitAdding


def marked(batch, i: int, length: int) -> list[tuple[int, float]]:
    found = []
    for t in range(length):
        value, marker = batch.inputs[t, i].tolist()
        if marker == 1:
            found.append((t, value))
    return found


@pytest.mark.parametrize(
    ("task", "low", "neutral"),
    [(HochreiterAdding(length=40), -1, 0), (Multiplication(length=40), 0, 1)],
)
def test_answers_and_marks_are_the_papers(task, low, neutral):
    batch = training_batch(task, 0, 2_000, 0)
    lengths = batch.lengths.tolist()
    assert set(lengths) == set(range(40, 45))
    firsts = 0
    for i in range(2_000):
        pairs = marked(batch, i, lengths[i])
        assert len(pairs) == 2
        (early, x), (late, y) = pairs
        assert early < 10
        assert late <= 19
        answer = 0.5 + (x + y) / 4 if low == -1 else x * y
        assert float(batch.targets[i, 0]) == pytest.approx(answer, abs=1e-6)
        markers = batch.inputs[: lengths[i], i, 1].tolist()
        expected = [0.0] * lengths[i]
        expected[0] = expected[-1] = -1.0
        expected[early] = expected[late] = 1.0
        assert markers == expected
        if early == 0:
            firsts += 1
            assert x == neutral
        values = batch.inputs[: lengths[i], i, 0].tolist()
        assert all(low <= value <= 1 for value in values)
    assert firsts > 0


@pytest.mark.parametrize("length", [12, 13, 40])
def test_marks_come_as_often_as_the_papers_two_draws_say(length):
    task = HochreiterAdding(length=length)
    probability = collections.Counter()
    for first in range(10):
        unmarked = [t for t in range(length) if t != first][: length // 2 - 1]
        for second in unmarked:
            probability[frozenset((first, second))] += 1 / (10 * len(unmarked))
    count = 20_000
    batch = training_batch(task, 0, count, 0)
    places = (batch.inputs[:, :, 1] == 1).T.nonzero()[:, 1].view(count, 2).tolist()
    seen = collections.Counter(frozenset(pair) for pair in places)
    assert set(seen) <= set(probability)
    chi_square = sum((seen[s] - count * p) ** 2 / (count * p) for s, p in probability.items())
    freedom = len(probability) - 1
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5
    with_first = sum(p for pair, p in probability.items() if 0 in pair)
    assert task.chance_loss == pytest.approx((2 - with_first) / 48)


def test_values_and_lengths_are_uniform():
    for task, low in ((HochreiterAdding(length=40), -1), (Multiplication(length=40), 0)):
        batch = training_batch(task, 0, 4_000, 0)
        values = batch.inputs[1:40, :, 0].flatten()
        shares = torch.histc(values, bins=4, min=low, max=1) / len(values)
        assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.006)
        shares = torch.bincount(batch.lengths - 40) / 4_000
        assert shares.tolist() == pytest.approx([0.2] * 5, abs=0.032)


@pytest.mark.parametrize("length", [2, 7, 40])
def test_unit_form(length):
    task = UnitAdding(length=length)
    batch = training_batch(task, 0, 2_000, 0)
    assert batch.lengths is None
    early_marks, late_marks = set(), set()
    for i in range(2_000):
        (early, x), (late, y) = marked(batch, i, length)
        early_marks.add(early)
        late_marks.add(late)
        assert float(batch.targets[i, 0]) == pytest.approx(x + y, abs=1e-6)
        assert sorted(batch.inputs[:, i, 1].tolist()) == [0.0] * (length - 2) + [1.0, 1.0]
    assert early_marks == set(range(length // 2))
    assert late_marks == set(range(length // 2, length))
    values = batch.inputs[:, :, 0]
    assert 0 <= float(values.min()) <= float(values.max()) < 1


def test_published_and_derived_chance_levels():
    assert UnitAdding(length=100).chance_loss == pytest.approx(0.1667, abs=5e-5)
    assert UnitAdding(length=100).chance == pytest.approx(0.1536)
    p = 1 / 10 + 9 / 10 / 49
    assert HochreiterAdding(length=100).chance_loss == pytest.approx((2 - p) / 48)
    # By the law of total variance: within the products of two values, within one value, between.
    total = (1 - p) * 7 / 144 + p / 12 + p * (1 - p) / 16
    assert Multiplication(length=100).chance_loss == pytest.approx(total)


def test_tolerances_and_criteria():
    off = torch.tensor([[0.039], [-0.039], [0.041], [-0.041]])
    for task, scale in ((HochreiterAdding(), 1), (UnitAdding(), 2), (Multiplication(), 1)):
        batch = training_batch(task, 0, 4, 0)
        assert task.right(batch.targets + scale * off, batch.targets).tolist() == [
            True,
            True,
            False,
            False,
        ]
    adding = HochreiterAdding()
    assert adding.solved({"loss": 0.0099, "accuracy": 1.0})
    assert not adding.solved({"loss": 0.0101, "accuracy": 1.0})
    assert not adding.solved({"loss": 0.0, "accuracy": 0.9999})
    assert UnitAdding().solved({"loss": 0.0099, "accuracy": 0.4})
    assert not UnitAdding().solved({"loss": 0.0101, "accuracy": 1.0})
    assert Multiplication().solved({"loss": 1.0, "accuracy": 1 - 12 / 2_000})
    assert not Multiplication().solved({"loss": 0.0, "accuracy": 1 - 13 / 2_000})


def test_dependency_lengths():
    assert HochreiterAdding(length=100).dependency_length == 109
    assert Multiplication(length=100).dependency_length == 109
    assert UnitAdding(length=100).dependency_length == 99


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "adding:length=10",
            r"length of task 'adding': got 10, expected at least 11\. One of the first ten pairs "
            r"is marked, and the last pair must come after them\.",
        ),
        (
            "multiplication:length=4",
            r"length of task 'multiplication': got 4, expected at least 11",
        ),
        (
            "adding:length=1,form=unit",
            r"length of task 'adding' with form=unit: got 1, expected at least 2\. "
            r"One step of each half is marked\.",
        ),
        (
            "adding:form=arjovsky",
            r"form of task 'adding': got 'arjovsky', expected one of hochreiter, unit",
        ),
    ],
)
def test_options_out_of_range(spec, message):
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build(spec)


def test_the_shortest_sequences_still_have_room_for_their_marks():
    batch = training_batch(HochreiterAdding(length=11), 0, 3_000, 0)
    for i, length in enumerate(batch.lengths.tolist()):
        assert len(marked(batch, i, length)) == 2
        assert float(batch.inputs[length - 1, i, 1]) == -1
