"""One-shot strokes: labels, drawings of one character, and the accuracy by presentation."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import TASKS, OneShotStrokes
from throughtime.tasks.sequences import occurrences


def test_each_character_is_drawn_as_often_and_labels_come_a_step_late() -> None:
    batch = next(OneShotStrokes(classes=4, presentations=3).batches("training", 5))
    assert batch.targets.shape == (12, 5)
    assert all(batch.targets[:, b].bincount().tolist() == [3] * 4 for b in range(5))
    given = batch.inputs[..., -4:]
    assert given[0].eq(0).all()
    assert torch.equal(given[1:].argmax(-1), batch.targets[:-1])
    assert given[1:].sum(-1).eq(1).all()
    assert not torch.equal(batch.targets[:, 0], batch.targets[:, 1])


def test_without_wobble_and_turn_drawings_of_a_character_are_equal() -> None:
    task = OneShotStrokes(classes=3, presentations=4, wobble=0, turn=0)
    batch = next(task.batches("training", 2))
    for b in range(2):
        drawn, labels = batch.inputs[:, b, :-3], batch.targets[:, b]
        for one in range(3):
            assert len(drawn[labels == one].unique(dim=0)) == 1
        assert len(drawn.unique(dim=0)) == 3


def test_points_are_those_of_the_curves_turned() -> None:
    task = OneShotStrokes(classes=2, presentations=2, strokes=2, points=5, wobble=0, turn=0)
    random = np.random.default_rng(0)
    controls = random.uniform(-1, 1, (1, 2, 2, 4, 2))
    drawn = task.drawings(random, controls, np.array([[1, 0]]))
    for place, label in enumerate((1, 0)):
        expected = []
        for curve in controls[0, label]:
            for t in np.linspace(0, 1, 5):
                level = curve  # de Casteljau
                while len(level) > 1:
                    level = (1 - t) * level[:-1] + t * level[1:]
                expected += level[0].tolist()
        assert drawn[0, place] == pytest.approx(expected)
    turned = OneShotStrokes(classes=2, presentations=2, wobble=0, turn=1.0)
    points = turned.drawings(random, controls, np.array([[1, 1]])).reshape(2, -1, 2)
    lengths = np.linalg.norm(points, axis=-1)
    assert lengths[0] == pytest.approx(lengths[1])
    assert np.abs(points[0] - points[1]).max() > 0.01


class Recaller(nn.Module):
    """The label of the nearest earlier drawing, which the next step gave; 0 for the first."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor, lengths: Any = None) -> Tensor:
        drawn, given = x[..., : -self.classes], x[..., -self.classes :]
        outputs = torch.zeros(*x.shape[:2], self.classes)
        for t in range(1, len(x)):
            near = (drawn[:t] - drawn[t]).square().sum(-1).argmin(0)
            outputs[t] = given[near + 1, torch.arange(x.shape[1])]
        return outputs


def test_a_perfect_memory_names_second_drawings_and_no_first_ones() -> None:
    task = OneShotStrokes(classes=5, presentations=5, wobble=0.01, turn=0.01)
    batch = next(task.batches("validation", 128))
    found = task.report(task.score(Recaller(5), batch).parts)
    assert found["accuracy_at_2"] > 0.99
    assert found["accuracy_at_5"] > 0.99
    # label 0 for the first drawing; those after it get a label that is already taken
    assert found["accuracy_at_1"] == pytest.approx(1 / 25, abs=0.03)
    assert task.solved(found)
    assert not task.solved({**found, "accuracy_at_2": 0.89})


def test_metrics_are_those_of_each_presentation() -> None:
    task = TASKS.build("one-shot-strokes:presentations=4")
    names = [metric.name for metric in task.metrics]
    assert names == ["accuracy", "loss", "accuracy_at_1", "accuracy_at_2"]
    assert task.metrics[2].chance == pytest.approx(0.2)
    assert task.metrics[1].chance == pytest.approx(math.log(5))
    targets = torch.tensor([[0, -1], [0, 1], [1, 1], [0, 1]])
    assert occurrences(targets).tolist() == [[1, 0], [2, 1], [1, 2], [3, 3]]


@pytest.mark.parametrize(
    "option", ["classes=1", "presentations=1", "strokes=0", "points=1", "wobble=-1", "turn=-0.5"]
)
def test_options_out_of_range(option: str) -> None:
    name = option.split("=")[0]
    with pytest.raises(ConfigurationError, match=f"{name} of task 'one-shot-strokes': got"):
        TASKS.build(f"one-shot-strokes:{option}")
