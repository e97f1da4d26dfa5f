"""Images as sequences, against reading pixel by pixel with fractions."""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from tasks.drawing import training_batch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import TASKS, ImageSet, LabelledImages, PixelSequences


def image_set(side: int, count: int = 23, white: int = 255) -> ImageSet:
    random = np.random.default_rng(1)

    def part(size: int) -> LabelledImages:
        return LabelledImages(
            random.integers(0, white + 1, (size, side, side), np.uint8),
            random.integers(0, 10, size),
        )

    splits = {"training": part(count), "validation": part(5), "test": part(8)}
    return ImageSet("small", side, white, splits)


def task_of(images: ImageSet, **options) -> PixelSequences:
    chosen = {
        "image_size": None,
        "pixels_per_step": 1,
        "stride": None,
        "permutation_seed": None,
        "standardized": False,
        "solved_accuracy": 0.9,
        "criterion": "at least 90 %",
    }
    return PixelSequences("small", images, **(chosen | options))


def resized(image: list[list[int]], side: int) -> list[list[Fraction]]:
    """Each new pixel is the mean of the old image over the square that it covers."""
    old = len(image)
    scale = Fraction(old, side)

    def shared(i: int, j: int) -> Fraction:
        return max(Fraction(0), min((i + 1) * scale, Fraction(j + 1)) - max(i * scale, Fraction(j)))

    return [
        [
            sum(
                shared(row, y) * shared(column, x) * image[y][x]
                for y in range(old)
                for x in range(old)
            )
            / (scale * scale)
            for column in range(side)
        ]
        for row in range(side)
    ]


def sequence(
    image: list[list[int]], white: int, side: int, width: int, stride: int, order: list[int]
) -> list[list[float]]:
    rows = image if side == len(image) else resized(image, side)
    flat = [Fraction(pixel) / white for row in rows for pixel in row]
    flat = [flat[place] for place in order]
    steps = []
    start, read_up_to = 0, 0
    while start < len(flat) and read_up_to < len(flat):
        window = flat[start : start + width]
        read_up_to = start + width
        steps.append([float(p) for p in window] + [0.0] * (width - len(window)))
        start += stride
    return steps


@pytest.mark.parametrize("white", [16, 255])
@pytest.mark.parametrize(
    ("side", "size", "width", "stride", "steps"),
    [
        (4, None, 1, None, 16),
        (4, None, 4, None, 4),
        (4, None, 3, None, 6),  # the last step reads one pixel
        (4, None, 16, None, 1),
        (4, None, 1, 5, 4),  # pixels 0, 5, 10, 15
        (4, None, 2, 5, 4),
        (4, None, 5, 2, 7),  # overlapping
        (4, None, 6, 4, 4),
        (4, 2, 1, None, 4),
        (6, 4, 1, None, 16),
        (4, 6, 1, None, 36),
        (4, 1, 1, None, 1),
        (5, 3, 2, 3, 3),
    ],
)
def test_sequences_are_the_pixels(white, side, size, width, stride, steps):
    images = image_set(side, white=white)
    task = task_of(images, image_size=size, pixels_per_step=width, stride=stride)
    (batch,) = task.batches("test", 8)
    assert batch.inputs.shape == (steps, 8, width)
    assert (task.length, task.dependency_length, task.inputs.width) == (steps, steps - 1, width)
    assert batch.lengths is None
    new = side if size is None else size
    for i in range(8):
        image = images.splits["test"].images[i].tolist()
        every = list(range(new * new))
        expected = sequence(image, white, new, width, width if stride is None else stride, every)
        np.testing.assert_allclose(batch.inputs[:, i].numpy(), expected, rtol=2e-7, atol=0)
    assert batch.targets.tolist() == images.splits["test"].labels.tolist()


def test_resizing_keeps_the_mean_and_makes_no_rounding_error():
    images = image_set(28)
    task = task_of(images, image_size=14)
    (batch,) = task.batches("test", 8)
    pixels = images.splits["test"].images.astype(np.int64)
    blocks = pixels.reshape(8, 14, 2, 14, 2).sum(axis=(2, 4)).reshape(8, 196)
    expected = (blocks.T * 196).astype(np.float32) / np.float32(784 * 255)
    np.testing.assert_array_equal(batch.inputs[:, :, 0].numpy(), expected)


def test_a_permutation_is_one_fixed_order_of_the_pixels():
    images = image_set(5)
    plain, permuted = task_of(images), task_of(images, permutation_seed=0)
    again, other = task_of(images, permutation_seed=0), task_of(images, permutation_seed=1)
    (x,) = plain.batches("test", 8)
    (y,) = permuted.batches("test", 8)
    (z,) = other.batches("test", 8)
    rows = {tuple(row): place for place, row in enumerate(x.inputs[:, :, 0].tolist())}
    assert len(rows) == 25
    order = [rows[tuple(row)] for row in y.inputs[:, :, 0].tolist()]
    assert sorted(order) == list(range(25))
    assert order != list(range(25))
    assert order != [rows[tuple(row)] for row in z.inputs[:, :, 0].tolist()]
    for seed in (0, 5):  # the same whatever the run's seed
        a, b = training_batch(permuted, 3, 6, seed), training_batch(again, 3, 6, seed)
        assert torch.equal(a.inputs, b.inputs)
        unpermuted = training_batch(plain, 3, 6, seed)
        assert torch.equal(a.inputs, unpermuted.inputs[order])
        assert torch.equal(a.targets, unpermuted.targets)


def test_permutation_comes_after_resizing_and_before_steps():
    images = image_set(6)
    options = {"image_size": 4, "permutation_seed": 2}
    (single,) = task_of(images, **options).batches("test", 8)
    (wide,) = task_of(images, **options, pixels_per_step=3, stride=2).batches("test", 8)
    for t in range(7):
        for place in range(3):
            if 2 * t + place < 16:
                assert torch.equal(wide.inputs[t, :, place], single.inputs[2 * t + place, :, 0])
            else:
                assert not wide.inputs[t, :, place].any()


def numbered(count: int) -> ImageSet:
    """Images whose two first pixels say which they are."""
    images = np.zeros((count, 2, 2), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(count), 256)
    part = LabelledImages(images, np.arange(count) % 10)
    return ImageSet("numbered", 2, 255, {"training": part, "validation": part, "test": part})


@pytest.mark.parametrize(("count", "batch_size"), [(300, 64), (300, 300), (7, 20), (300, 1)])
def test_every_epoch_shows_every_image_once_in_another_order(count, batch_size):
    task = task_of(numbered(count))
    shown: list[int] = []
    for step in range(-(-3 * count // batch_size)):
        batch = training_batch(task, step, batch_size, seed=5)
        levels = (batch.inputs[:2, :, 0] * 255).round().int()
        which = (256 * levels[0] + levels[1]).tolist()
        assert batch.targets.tolist() == [i % 10 for i in which]
        shown += which
    epochs = [shown[e * count : (e + 1) * count] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert epochs[0] != epochs[1]
    assert epochs[1] != epochs[2]


def test_a_batch_depends_on_seed_and_step_alone():
    task = task_of(image_set(4))
    late = training_batch(task, 1_000, 8, 3)
    for step in (0, 999, 1_000):
        again = training_batch(task, step, 8, 3)
    assert torch.equal(again.inputs, late.inputs)
    assert not torch.equal(training_batch(task, 1_000, 8, 4).inputs, late.inputs)
    assert not torch.equal(training_batch(task, 999, 8, 3).inputs, late.inputs)


def test_held_out_images_come_once_in_order_and_are_not_trained_on():
    task = TASKS.build("digits")
    for split, count in (("validation", 200), ("test", 300)):
        sizes = [batch.inputs.shape[1] for batch in task.batches(split, 64)]
        assert sizes == [64] * (count // 64) + [count % 64]
    training = training_batch(task, 0, 1_297, 0)

    def images(batches) -> set[bytes]:
        return {b.inputs[:, i].numpy().tobytes() for b in batches for i in range(b.inputs.shape[1])}

    trained = images([training])
    validation, test = (images(task.batches(split, 50)) for split in ("validation", "test"))
    assert (len(trained), len(validation), len(test)) == (1_297, 200, 300)
    assert not trained & validation
    assert not trained & test
    assert not validation & test


def test_chance_is_what_the_class_frequencies_give():
    task = TASKS.build("digits")
    targets = torch.cat([batch.targets for batch in task.batches("test", 300)])
    counts = [targets.tolist().count(digit) for digit in range(10)]
    assert task.chance == max(counts) / 300
    logits = torch.tensor([math.log(count / 300) for count in counts]).expand(300, 10)
    (batch,) = task.batches("test", 300)
    assert float(task.answers.loss(logits, batch.targets)) == pytest.approx(
        task.chance_loss, rel=1e-6
    )
    assert float(task.right(logits, batch.targets).float().mean()) == pytest.approx(task.chance)


def test_standardized_pixels_have_zero_mean_and_unit_variance():
    images = image_set(5)
    pixels = images.splits["training"].images.astype(np.float64)
    task = task_of(images, pixels_per_step=3, standardized=True)
    plain = task_of(images, pixels_per_step=3)
    (batch,), (unscaled,) = task.batches("test", 8), plain.batches("test", 8)
    expected = (unscaled.inputs.double() * 255 - pixels.mean()) / pixels.std()
    expected[-1, :, 1:] = 0  # beyond the end
    torch.testing.assert_close(batch.inputs.double(), expected, rtol=1e-5, atol=1e-6)
    every = training_batch(task, 0, 23, 0).inputs
    read = torch.cat([every[:-1].flatten(), every[-1, :, 0]]).double()
    assert float(read.mean()) == pytest.approx(0, abs=1e-6)
    assert float(read.var(correction=0)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("spec", "digest"),
    [
        ("digits", "7064a7c5464d6d91"),
        ("permuted-digits", "f28e8bc69e400e08"),
        ("digits:image_size=5,pixels_per_step=2,stride=3", "1b2ac8bfbeb8bf83"),
    ],
)
def test_batches_are_pinned(spec, digest):
    batch = training_batch(TASKS.build(spec), step=30, batch_size=64, seed=7)
    content = batch.inputs.numpy().tobytes() + batch.targets.numpy().tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == digest


def test_criterion():
    for name, threshold in (("digits", 0.95), ("permuted-digits", 0.95)):
        task = TASKS.build(name)
        assert task.solved({"loss": 1.0, "accuracy": threshold})
        assert not task.solved({"loss": 0.0, "accuracy": threshold - 0.001})
        assert "95 %" in task.criterion


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digits:image_size=0", r"image_size of task 'digits': got 0, expected at least 1"),
        (
            "digits:pixels_per_step=65",
            r"pixels_per_step of task 'digits': got 65, expected a whole number from 1 to 64, "
            r"the pixels of an image",
        ),
        ("digits:pixels_per_step=0", r"pixels_per_step of task 'digits': got 0"),
        ("permuted-digits:stride=0", r"stride of task 'permuted-digits': got 0"),
        ("digits:image_size=3,stride=10", r"stride of task 'digits': got 10, expected .* 1 to 9"),
        (
            "permuted-digits:permutation_seed=-1",
            r"seed: got -1, expected a whole number in \[0, 2\^64\)",
        ),
    ],
)
def test_options_out_of_range(spec, message):
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build(spec)


def test_batch_sizes_below_one():
    task = TASKS.build("digits")
    with pytest.raises(ConfigurationError, match=r"^batch_size: got 0, expected at least 1$"):
        training_batch(task, 0, 0, 0)
    with pytest.raises(ConfigurationError, match=r"^batch_size: got -1, expected at least 1$"):
        task.batches("test", -1)
