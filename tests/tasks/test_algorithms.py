"""The algorithmic tasks: answers that are read off the inputs by plain loops."""

import collections
import itertools
import math

import pytest
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.models import build_model
from throughtime.tasks import TASKS, Levels
from throughtime.tasks.kinds import Bits


def held_out(task, count=1_024):
    return next(iter(task.batches("validation", count)))


SPECS = (
    "copy-bits:bits=3,largest=5",
    "repeat-copy:bits=3,largest=4",
    "associative-recall:bits=3,vectors=2,largest=4",
    "priority-sort:bits=3,smallest=1,largest=6",
)


def copied(x):
    end = [row[-1] for row in x].index(1)
    return [row[:-1] for row in x[:end]]


def repeated(x):
    end = [row[-2] for row in x].index(1)
    count = round(x[end][-1] * math.sqrt(99 / 12) + 5.5)
    return [[*row[:-2], 0] for row in x[:end]] * count + [[0] * (len(x[0]) - 2) + [1]]


def recalled(x):
    items, asked = [], None
    for row in x:
        if row[-2] == 1:
            items.append([])
        elif row[-1] == 1:
            if asked is not None:
                break
            asked = []
        else:
            (items[-1] if asked is None else asked).append(row[:-2])
    assert len({str(item) for item in items}) == len(items)
    return items[items.index(asked) + 1]


def ranked(x):
    end = [row[-1] for row in x].index(1)
    rows = sorted(x[:end], key=lambda row: -row[-2])
    return [row[:-2] for row in rows[: len(x) - 1 - end]]


ANSWERS = {
    "copy-bits": copied,
    "repeat-copy": repeated,
    "associative-recall": recalled,
    "priority-sort": ranked,
}


@pytest.mark.parametrize("spec", SPECS)
def test_the_answers_follow_from_the_inputs(spec):
    task, answer = TASKS.build(spec), ANSWERS[spec.partition(":")[0]]
    batch = held_out(task, 200)
    assert batch.inputs.shape == (task.length, 200, task.inputs.width)
    for b, length in enumerate(batch.lengths.tolist()):
        expected = answer(batch.inputs[:length, b].tolist())
        due = batch.targets[length - len(expected) : length, b]
        torch.testing.assert_close(due, torch.tensor(expected))
        rest = torch.cat([batch.targets[: length - len(expected), b], batch.targets[length:, b]])
        assert bool(rest.isnan().all())
        assert not batch.inputs[length:, b].any()
        assert not batch.inputs[length - len(expected) : length, b].any()


@pytest.mark.parametrize("spec", SPECS)
def test_levels_are_uniform_and_bits_are_fair(spec):
    task = TASKS.build(spec)
    batch = next(iter(task.batches("test", 2_560)))
    cases = collections.Counter(case.steps for case in task.cases())
    found = collections.Counter(batch.lengths.tolist())
    assert found.keys() == cases.keys()
    for steps, count in cases.items():
        share = count / cases.total()
        error = math.sqrt(share * (1 - share) / 2_560)
        assert found[steps] / 2_560 == pytest.approx(share, abs=5 * error)
    zeros = torch.zeros_like(batch.targets)
    assert float(task.answers.loss(zeros, batch.targets)) == pytest.approx(task.chance_loss)
    guesses = torch.randn(batch.targets.shape, generator=torch.Generator().manual_seed(0))
    wrong = task.answers.wrong(guesses, batch.targets).double()
    error = float(wrong.std()) / math.sqrt(2_560)
    assert float(wrong.mean()) == pytest.approx(task.chance_wrong, abs=5 * error)
    right = float(task.right(guesses, batch.targets).double().mean())
    error = math.sqrt(task.chance / 2_560) + 1e-3
    assert right == pytest.approx(task.chance, abs=5 * error)


@pytest.mark.parametrize("spec", SPECS)
def test_right_answers_solve_the_task(spec):
    task = TASKS.build(spec)
    batch = held_out(task, 32)
    outputs = 60 * (batch.targets.nan_to_num() - 0.5)
    assert task.answers.wrong(outputs, batch.targets).tolist() == [0] * 32
    assert float(task.answers.loss(outputs, batch.targets)) == pytest.approx(0, abs=1e-6)
    one = outputs.clone()
    one[int(batch.lengths[3]) - 1, 3, 0] *= -1
    assert task.answers.wrong(one, batch.targets).tolist() == [int(b == 3) for b in range(32)]
    assert task.right(one, batch.targets).sum() == 31
    assert task.solved({"wrong_bits": 0.0099})
    assert not task.solved({"wrong_bits": 0.01})


def test_losses_of_bits_are_cross_entropies():
    bits, targets = Bits(2), torch.tensor([[1.0, 0.0], [torch.nan, torch.nan]])
    outputs = torch.tensor([[0.3, -2.0], [5.0, 5.0]], requires_grad=True)
    by_hand = (math.log(1 + math.exp(-0.3)) + math.log(1 + math.exp(-2.0))) / 2
    losses = bits.losses(outputs, targets)
    assert losses.tolist() == pytest.approx([by_hand, 0])
    assert bits.loss(outputs, targets).item() == pytest.approx(by_hand)
    losses.sum().backward()
    assert bool(outputs.grad.isfinite().all())
    assert bits.due(targets).tolist() == [True, False]
    assert bits.wrong(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), targets).tolist() == [1, 0]


@pytest.mark.parametrize("spec", SPECS)
def test_a_level_is_the_task_with_that_largest_one(spec):
    task = TASKS.build(spec)
    small = task.at_level(2)
    assert (small.largest, small.smallest) == (2, task.smallest)
    assert small.length < task.length
    assert (small.inputs, small.answers) == (task.inputs, task.answers)
    assert max(held_out(small).lengths.tolist()) == small.length


@pytest.mark.parametrize("spec", SPECS)
def test_a_training_batch_has_one_level_and_no_padding(spec):
    task, answer = TASKS.build(spec), ANSWERS[spec.partition(":")[0]]
    batches = [*itertools.islice(task.batches("training", 5, seed=2), 300)]
    assert {len(b.inputs) for b in batches} == {case.steps for case in task.cases()}
    for batch in batches[:20]:
        assert batch.lengths is None
        for b in range(5):
            expected = torch.tensor(answer(batch.inputs[:, b].tolist()))
            torch.testing.assert_close(batch.targets[-len(expected) :, b], expected)
            assert bool(batch.targets[: -len(expected), b].isnan().all())


def test_longer_sequences_are_examined():
    task = TASKS.build("copy-bits:bits=2,smallest=1,largest=2,longer=3")
    model = build_model("gru:hidden=2", task.inputs, task.answers)
    with torch.no_grad():
        model.readout.weight.zero_()
        model.readout.bias.fill_(1)
    (found,) = task.examine(model, "test").items()
    batch = next(TASKS.build("copy-bits:bits=2,smallest=3,largest=3").batches("test", 2560))
    assert found[0] == "wrong_bits_when_longer"
    assert found[1] == float((batch.targets == 0).sum()) / 2560
    assert task.metrics[-1].name == found[0]
    assert task.metrics[-1].chance == 3


def test_a_level_doubles_after_enough_low_losses():
    levels = Levels(start=1, largest=20, threshold=0.1, patience=2)
    assert [levels.after(h, [0.0, 0.0]) for h in (1, 2, 8, 16, 20)] == [2, 4, 16, 20, 20]
    assert levels.after(4, [0.0]) == 4
    assert levels.after(4, [0.0, 0.05, 0.16]) == 4
    assert levels.after(4, [9.0, 0.05, 0.14]) == 8


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("copy-bits:bits=0", "bits of task 'copy-bits': got 0"),
        ("copy-bits:smallest=0", "smallest of task 'copy-bits': got 0"),
        ("copy-bits:smallest=4,largest=3", "largest of task 'copy-bits': got 3"),
        ("copy-bits:start=30", "start of a curriculum: got 30"),
        ("copy-bits:start=-1", "start of task 'copy-bits': got -1"),
        ("copy-bits:longer=-1", "longer of task 'copy-bits': got -1"),
        ("copy-bits:start=1,threshold=0", "threshold of a curriculum: got 0"),
        ("copy-bits:start=1,patience=0", "patience of a curriculum: got 0"),
        ("repeat-copy:bits=0", "bits of task 'repeat-copy': got 0"),
        ("associative-recall:smallest=1", "smallest of task 'associative-recall': got 1"),
        ("associative-recall:vectors=0", "vectors of task 'associative-recall': got 0"),
        ("associative-recall:bits=2,vectors=1", "largest of task 'associative-recall': got 6"),
        ("priority-sort:start=2", "start of task 'priority-sort': got 2"),
    ],
)
def test_options_out_of_range_are_refused(spec, message):
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build(spec)
