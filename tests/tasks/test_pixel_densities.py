"""Images and their probability: what a batch holds, what a score counts, and chance."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from throughtime.models import build_model
from throughtime.tasks import TASKS, PixelDensity, Task
from throughtime.testing import TaskConformance


def small(**options) -> PixelDensity:
    random = np.random.default_rng(0)
    splits = {
        split: (random.random((count, 1, 2, 3)) < 0.3).astype(np.uint8)
        for split, count in (("training", 9), ("validation", 14), ("test", 13))
    }
    return PixelDensity("small", splits, **options)


class TestBinary(TaskConformance):
    def make_task(self) -> Task:
        return small()

    def make_model(self, task: Task) -> nn.Module:
        return build_model("nade:hidden=3", task.inputs, task.answers)


class TestDynamic(TestBinary):
    def make_task(self) -> Task:
        random = np.random.default_rng(0)
        splits = {
            split: random.integers(0, 256, (14, 1, 2, 3)).astype(np.uint8)
            for split in ("training", "validation", "test")
        }
        return PixelDensity("small", splits, white=255)


def test_an_epoch_has_every_image_once() -> None:
    task = small()
    batches = itertools.islice(task.batches("training", 3, seed=1), 3)
    rows = torch.cat([batch.x for batch in batches]).flatten(1)
    every = torch.from_numpy(task._splits["training"].reshape(9, -1)).long()
    assert sorted(rows.tolist()) == sorted(every.tolist())


def test_anew_binarised_pixels_have_the_grey_levels_as_probabilities() -> None:
    grey = np.array([0, 51, 128, 255], np.uint8).reshape(1, 1, 2, 2).repeat(4000, 0)
    task = PixelDensity("grey", dict.fromkeys(("training", "validation", "test"), grey), white=255)
    one, two = itertools.islice(task.batches("training", 4000), 2)
    assert not torch.equal(one.x, two.x)
    for x in (one.x, next(task.batches("test", 4000)).x):
        means = x.double().mean(0).flatten()
        p = torch.tensor([0, 51, 128, 255]).double() / 255
        assert bool(((means - p).abs() <= 4 * (p * (1 - p) / 4000).sqrt()).all())


def test_chance_is_that_of_independent_pixels() -> None:
    task = small()
    training, held = (task._splits[s].reshape(-1, 6) for s in ("training", "validation"))
    p = (training.sum(0) + 1) / (len(training) + 2)
    expected = -np.where(held, np.log(p), np.log(1 - p)).sum(1).mean()
    assert math.isclose(task.chance_loss, expected)
    images = {s: task._splits[s] * 2 for s in task._splits}  # two of three levels
    three = PixelDensity("three", images, levels=3)
    p = (training.sum(0) + 1) / (len(training) + 3)
    q = (len(training) - training.sum(0) + 1) / (len(training) + 3)
    expected = -np.where(held, np.log(p), np.log(q)).sum(1).mean()
    assert math.isclose(three.chance_loss, expected)
    headline = three.metrics[0]
    assert headline.name == "bits_per_dimension"
    assert math.isclose(headline.chance, expected / 6 / math.log(2))


def test_the_standard_error_is_that_of_the_items() -> None:
    task = small()
    model = build_model("nade:hidden=3", task.inputs, task.answers).double()
    with torch.no_grad():
        score = task.score(model, next(task.batches("test", 13)))
        losses = -model.log_prob(next(task.batches("test", 13)).x)
    report = task.report(score.parts)
    assert math.isclose(report["loss"], losses.mean())
    assert math.isclose(report["standard_error"], losses.std() / math.sqrt(13))
    with torch.no_grad():
        one = task.score(model, next(task.batches("test", 1)))
    assert math.isnan(task.report(one.parts)["standard_error"])


def test_digits_are_thresholded_at_half_of_white() -> None:
    grey = next(TASKS.build("digits:standardized=false").batches("test", 5)).inputs
    x = next(TASKS.build("thresholded-digits").batches("test", 5)).x
    assert torch.equal(x.flatten(1).T, (grey[..., 0] >= 0.5).long())


def test_names_of_cells_are_no_models_of_images() -> None:
    task = small()
    with pytest.raises(ValueError, match=r"a model of images: got the name of a cell, .*nade"):
        build_model("lstm", task.inputs, task.answers)
