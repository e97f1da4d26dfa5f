"""Evaluation against a loop over single sequences."""

import itertools
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from tasks.drawing import training_batch
from torch import Tensor, nn
from training.tiny import Scripted

from throughtime.core.errors import DataError
from throughtime.core.scoring import Score
from throughtime.tasks import TASKS, SequenceBatch
from throughtime.tasks.kinds import Classes, Values
from throughtime.training import evaluate


class Readout(nn.Module):
    """Answers from the inputs alone, with dropout and a batch norm that would give it away."""

    def __init__(self, inputs: int, outputs: int, per_step: bool):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5)
        self.per_step = per_step

    def forward(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        outputs = self.frozen(self.dropout(self.linear(inputs)))
        return outputs if self.per_step else outputs.sum(0)


def check(
    task: object, batches: Sequence[SequenceBatch], model: nn.Module, singles: list[SequenceBatch]
) -> None:
    model.eval()
    losses, right = [], []
    for single in singles:
        outputs = model(single.inputs, single.lengths)
        if task.answers.per_step:
            recalled = outputs.shape[0] - 10
            for t, output in enumerate(outputs[:, 0]):
                target = int(single.targets[t, 0])
                if target >= 0:
                    losses.append(-F.log_softmax(output.double(), 0)[target].item())
                if t >= recalled:
                    right.append(output.argmax().item() == target)
        elif isinstance(task.answers, Classes):
            losses.append(-F.log_softmax(outputs[0].double(), 0)[single.targets[0]].item())
            right.append(outputs[0].argmax().item() == single.targets[0].item())
        else:
            losses.append((outputs - single.targets).double().square().mean().item())
            right.append(bool(task.right(outputs, single.targets).item()))
    model.train()
    found = evaluate(model, task, batches)
    assert found["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found["accuracy"] == sum(right) / len(right)
    assert 0 < found["accuracy"] < 1, "or the test tells nothing"


def split(batch: SequenceBatch, sizes: Sequence[int]) -> list[SequenceBatch]:
    def part(tensor: Tensor, start: int, end: int) -> Tensor:
        per_step = tensor.ndim == 3 or (tensor.ndim == 2 and not tensor.is_floating_point())
        return tensor[:, start:end] if per_step else tensor[start:end]

    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [
        SequenceBatch(
            part(batch.inputs, start, end),
            part(batch.targets, start, end),
            None if batch.lengths is None else batch.lengths[start:end],
        )
        for start, end in itertools.pairwise(edges)
    ]


@pytest.mark.parametrize("spec", ["digits", "adding:length=11", "copying:length=3"])
def test_uneven_batches(spec: str) -> None:
    task = TASKS.build(spec)
    per_step = task.answers.per_step
    batch = training_batch(task, 0, 60, 0)
    if per_step:  # as many answers as the sequence is far back, so that weights differ
        for index in range(60):
            batch.targets[: index % 10, index] = -1
    model = Readout(task.inputs.width, task.answers.count, per_step)
    with torch.no_grad():  # near enough to some answers
        model.linear.weight.mul_(0.1)
        if isinstance(task.answers, Values):
            model.linear.bias.fill_(0.5 / task.length)
    check(task, split(batch, [7, 50, 2, 1]), model, split(batch, [1] * 60))


def test_nothing_is_left_behind() -> None:
    model = Readout(1, 1, per_step=False)
    model.frozen.eval()
    batches = list(Scripted().batches("test", 2))
    state = torch.get_rng_state()
    evaluate(model, Scripted(), (b for b in batches if torch.rand(1) >= 0))
    assert torch.equal(torch.get_rng_state(), state)
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)
    assert all(p.grad is None for p in model.parameters())


def test_modes_are_put_back_after_an_error() -> None:
    model = Readout(1, 1, per_step=False)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluate(model, Scripted(), [SequenceBatch(torch.zeros(3, 2, 5), torch.zeros(2, 1))])
    assert model.training


def test_no_gradients_are_kept() -> None:
    class Seen(Scripted):
        def score(self, model, batch, *, state=None, step=None) -> Score:
            score = super().score(model, batch, state=state, step=step)
            assert not score.loss.requires_grad
            return score

    evaluate(Readout(1, 1, per_step=False), Seen(), Scripted().batches("test", 2))


def test_nothing_to_evaluate() -> None:
    message = "task scripted: nothing to evaluate: got no answer, expected one at least"
    with pytest.raises(DataError, match=message):
        evaluate(Readout(1, 1, per_step=False), Scripted(), [])
