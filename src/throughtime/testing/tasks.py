"""The suite that every task inherits."""

import abc
import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.scoring import Batch, Mean, merged
from throughtime.core.state import map_state, state_tensors
from throughtime.structures import Forest
from throughtime.tasks.dialogues import DialogueBatch
from throughtime.tasks.frames import FrameBatch
from throughtime.tasks.pairs import PairBatch
from throughtime.tasks.sequences import SequenceBatch
from throughtime.tasks.stories import StoryBatch
from throughtime.tasks.task import Split, Task
from throughtime.tasks.warped_images import ImageBatch

_HELD_OUT: tuple[Split, ...] = ("validation", "test")


class TaskConformance(abc.ABC):
    """The rules of every task. Inherit it, supply `make_task` and `make_model`, and run pytest.

    The model is run in float64 on the CPU.

    Attributes:
        items: number of held-out items that are compared with each other.
        tolerance: largest relative difference between sums in another order.
        draws: If True, steps, seeds and splits have different batches.

    Example:
        class TestMyTask(TaskConformance):
            def make_task(self):
                return MyTask(length=20)

            def make_model(self, task):
                return build_model("gru:hidden=5", task.inputs, task.answers)
    """

    items = 12
    draws = True
    tolerance = 1e-9

    @abc.abstractmethod
    def make_task(self) -> Task:
        """A small task."""

    @abc.abstractmethod
    def make_model(self, task: Task) -> nn.Module:
        """A small model that the task scores.

        Arguments:
            task: The task.
        """

    def test_training_batches_are_functions_of_seed_and_step(self) -> None:
        """Neither the draws before, nor another copy of the task, change them."""
        task, again = self.make_task(), self.make_task()
        first = [*itertools.islice(task.batches("training", 3, seed=4), 4)]
        other = task.batches("training", 3, seed=5)
        next(other)
        late = task.batches("training", 3, seed=4, start=2)
        for batch, expected in zip(itertools.islice(late, 2), first[2:], strict=True):
            next(other)
            _same(batch, expected)
        _same(next(again.batches("training", 3, seed=4, start=3)), first[3])
        if not self.draws:
            return
        assert not _equal(first[0], first[1]), "two steps have the same batch"
        seeded = next(task.batches("training", 3, seed=5))
        assert not _equal(first[0], seeded), "two seeds have the same batch"

    def test_training_never_ends_and_has_the_given_size(self) -> None:
        """Batches of a late step are drawn as early ones are."""
        for size, start in ((1, 0), (3, 10_000)):
            batch = next(self.make_task().batches("training", size, start=start))
            assert isinstance(batch, Batch)
            assert batch.size == size
            assert type(batch.to(torch.device("cpu"))) is type(batch)

    def test_held_out_batches_do_not_depend_on_the_seed(self) -> None:
        """They are the same in every run, and different in the two splits."""
        task, again = self.make_task(), self.make_task()
        for split in _HELD_OUT:
            pairs = zip(
                task.batches(split, 3, seed=1), again.batches(split, 3, seed=2), strict=True
            )
            for batch, other in itertools.islice(pairs, 3):
                _same(batch, other)
        first = [next(task.batches(split, 3)) for split in _HELD_OUT]
        assert not (self.draws and _equal(*first)), "both splits begin with the same batch"

    def test_held_out_batches_start_where_they_are_told(self) -> None:
        """`start` skips batches."""
        task = self.make_task()
        whole = [*itertools.islice(task.batches("validation", 2), 3)]
        for start, expected in enumerate(whole):
            _same(next(task.batches("validation", 2, start=start)), expected)

    def test_parts_of_small_batches_merge_to_those_of_a_large_one(self) -> None:
        """Neither neighbours in the batch nor the length of the padding change a score."""
        task, model = self._scored()
        if task.stream:
            return
        found = [self._parts(task, model, size) for size in (1, 3, self.items)]
        for parts in found[:-1]:
            assert parts.keys() == found[-1].keys()
            for name, mean in parts.items():
                assert mean.count == found[-1][name].count, f"number of values of {name}"
                expected = float(found[-1][name].total)
                close = math.isclose(
                    float(mean.total), expected, rel_tol=self.tolerance, abs_tol=self.tolerance
                )
                assert close, f"sum of {name}: {float(mean.total)}, not {expected}"

    def test_padding_changes_nothing(self) -> None:
        """Values behind the end of a sequence change neither the loss nor a gradient."""
        task, model = self._scored()
        batch = next(task.batches("training", 3))
        filled = _filled(batch := _double(batch))
        if filled is None:
            return
        for name, one, other in zip(
            ("loss", *(name for name, _ in model.named_parameters())),
            _gradients(task, model, batch),
            _gradients(task, model, filled),
            strict=True,
        ):
            assert torch.equal(one, other), f"padding changes {name}"

    def test_a_score_has_all_parts_and_a_report_all_metrics(self) -> None:
        """An evaluation reports the loss and, with the examination, each metric."""
        task, model = self._scored()
        report = task.report(self._parts(task, model, self.items))
        assert "loss" in report
        assert all(isinstance(value, float) for value in report.values())
        missing = {metric.name for metric in task.metrics} - report.keys()
        if missing:
            with torch.no_grad():
                missing -= task.examine(model.float(), "validation").keys()
        assert not missing, f"neither reported nor examined: {', '.join(sorted(missing))}"

    def test_a_training_score_has_a_loss_with_gradients(self) -> None:
        """The reported loss is that of the gradient."""
        task, model = self._scored()
        batch = _double(next(task.batches("training", 3)))
        score = task.score(model, batch, step=0)
        assert score.loss.shape == ()
        assert math.isclose(score.parts["loss"].value, score.loss.item(), rel_tol=self.tolerance)
        assert not any(mean.total.requires_grad for mean in score.parts.values())
        score.loss.backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
        assert (score.state is not None) == task.stream

    def test_a_carried_state_takes_part_in_the_score(self) -> None:
        """The batch before changes the loss of the next, on a stream."""
        task, model = self._scored()
        if not task.stream:
            return
        first, second = (_double(b) for b in itertools.islice(task.batches("training", 3), 2))
        with torch.no_grad():
            state = task.score(model, first, step=0).state
            carried = task.score(model, second, state=state, step=1).loss
            assert not torch.equal(carried, task.score(model, second, step=1).loss)
            for tensor in state_tensors(map_state(Tensor.detach, state)):
                assert bool(torch.isfinite(tensor).all())

    def test_last_answers_count_alone(self) -> None:
        """The batch is in float64 and has one answer a sequence at most, which has a gradient."""
        task, model = self._scored()
        batch = next(task.batches("training", 3))
        last = task.last_answers(batch)
        assert last.size == batch.size
        score = task.score(model, last)
        assert score.loss.dtype is torch.float64
        whole = task.score(model, _double(batch))
        assert 0 < score.parts["loss"].count <= whole.parts["loss"].count
        score.loss.backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())

    def test_chance_does_not_solve_the_task(self) -> None:
        """An answer that remembers nothing does not meet the criterion."""
        task = self.make_task()
        chance = {metric.name: metric.chance for metric in task.metrics}
        known = {name: value for name, value in chance.items() if value is not None}
        if len(known) == len(chance):
            assert not task.solved(known)
        assert task.criterion
        assert 0 < task.dependency_length <= task.length

    def _scored(self) -> tuple[Task, nn.Module]:
        task = self.make_task()
        torch.manual_seed(0)
        return task, self.make_model(task).double().eval()

    def _parts(self, task: Task, model: nn.Module, size: int) -> dict[str, Mean]:
        count = 1 if task.stream else -(-self.items // size)
        batches = itertools.islice(task.batches("validation", size), count)
        with torch.no_grad():
            return merged([task.score(model, _double(batch)).parts for batch in batches])


def _filled(batch: Any) -> Any:
    """Return the batch with other values behind the end of each sequence; None without padding."""
    if isinstance(batch, PairBatch):
        inputs = torch.where(batch.targets < 0, 1, batch.inputs)
        if batch.source_lengths is None:
            return batch._replace(inputs=inputs)
        source = _padded_with(batch.source, batch.source_lengths, 1)
        return batch._replace(inputs=inputs, source=source)
    if isinstance(batch, FrameBatch):
        return batch._replace(x=_padded_with(batch.x, batch.lengths, 3))
    if isinstance(batch, DialogueBatch):
        steps = torch.arange(batch.symbols.shape[1])[None, :, None]
        beyond = steps >= batch.lengths[:, None]
        return batch._replace(symbols=torch.where(beyond, 1, batch.symbols))
    if isinstance(batch, StoryBatch):
        beyond = torch.arange(batch.sentences.shape[1])[:, None] >= batch.lengths[:, None]
        question = _padded_with(batch.question, batch.question_lengths, 1)
        sentences = torch.where(beyond, 1, batch.sentences)
        return batch._replace(sentences=sentences, question=question)
    if isinstance(batch, ImageBatch) and batch.sizes is not None:
        rows = torch.arange(batch.images.shape[2])[:, None] >= batch.sizes[:, :1, None]
        columns = torch.arange(batch.images.shape[3]) >= batch.sizes[:, 1:, None]
        return batch._replace(images=torch.where((rows | columns)[:, None], 3, batch.images))
    if isinstance(batch, SequenceBatch) and batch.lengths is not None:
        value = 3 if batch.inputs.is_floating_point() else 1
        return batch._replace(inputs=_padded_with(batch.inputs, batch.lengths, value))
    return None


def _padded_with(grid: Tensor, lengths: Tensor, value: float) -> Tensor:
    filled = grid.clone()
    filled[torch.arange(len(grid))[:, None] >= lengths] = value
    return filled


def _gradients(task: Task, model: nn.Module, batch: Any) -> list[Tensor]:
    """Return the loss and the gradient of each parameter."""
    loss = task.score(model, batch, step=0).loss
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    zeros = (torch.zeros_like(p) for p in model.parameters())
    return [loss, *(z if g is None else g for g, z in zip(found, zeros, strict=True))]


def _double(batch: Any) -> Any:
    """Return the batch with numbers in float64."""
    return type(batch)(
        *(
            field.double() if isinstance(field, Tensor) and field.is_floating_point() else field
            for field in _fields(batch)
        )
    )


def _fields(batch: Any) -> tuple[Any, ...]:
    return tuple(batch) if isinstance(batch, tuple) else tuple(vars(batch).values())


def _tensors(batch: Any) -> Iterator[Tensor]:
    for field in _fields(batch):
        if isinstance(field, Forest):
            yield from (field.inputs, field.edges, field.positions, field.sizes)
        elif isinstance(field, Tensor):
            yield field


def _equal(one: Any, other: Any) -> bool:
    pairs = [*zip(_tensors(one), _tensors(other), strict=True)]
    return all(a.dtype == b.dtype and a.shape == b.shape and _alike(a, b) for a, b in pairs)


def _alike(one: Tensor, other: Tensor) -> bool:
    """True if all numbers are equal; NaN stands for no answer, and equals itself."""
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    assert _equal(one, other), "two batches that should be the same differ"
