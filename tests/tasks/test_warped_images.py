"""Warped images: no warp, a known warp, crops, bad options."""

import numpy as np
import pytest
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.tasks import TASKS, load_digits
from throughtime.tasks.warped_images import _warped, warped_digits

DIGITS = load_digits()


def test_without_a_warp_the_digit_is_in_the_middle() -> None:
    batch = next(warped_digits(image_size=12, warp=0.0).batches("validation", 3))
    plain = DIGITS.splits["training"].images / 16
    found = batch.images[:, 0].numpy() * plain.std() + plain.mean()
    expected = np.pad(DIGITS.splits["validation"].images[:3] / 16, ((0, 0), (2, 2), (2, 2)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert batch.targets.tolist() == DIGITS.splits["validation"].labels[:3].tolist()


@pytest.mark.parametrize(
    ("linear", "shift", "turn"),
    [
        ([0, 0, 0, 0], [0.5, 0], lambda x: np.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0)))),
        ([-1, 1, 1, -1], [0, 0], lambda x: x.transpose(0, 2, 1)),
        ([-2, 0, 0, -2], [0, 0], lambda x: x[:, ::-1, ::-1]),
    ],
)
def test_known_warps(linear, shift, turn) -> None:
    """A shift by a pixel, rows for columns, and half a turn; the side is 8, a quarter 2."""
    images = DIGITS.splits["test"].images[:2]
    draws = np.tile([*linear, *shift, *np.zeros(32)], (2, 1))
    np.testing.assert_allclose(_warped(images, draws, 8), turn(images), atol=1e-6)


def test_displacements_are_interpolated_between_their_places() -> None:
    """All equal to 1, they shift by an eighth of the side: a pixel down the rows."""
    images = DIGITS.splits["test"].images[:1]
    draws = np.concatenate([np.zeros(6), np.ones(16), np.zeros(16)])[None]
    expected = np.pad(images[:, 1:], ((0, 0), (0, 1), (0, 0)))
    np.testing.assert_allclose(_warped(images, draws, 8), expected, atol=1e-6)


def test_crops_are_the_smallest_rectangles_with_what_is_bright() -> None:
    whole = next(warped_digits().batches("test", 40)).images[:, 0]
    batch = next(warped_digits(cropped=True).batches("test", 40))
    plain = DIGITS.splits["training"].images / 16
    bright = whole * plain.std() + plain.mean() >= 0.25
    assert batch.sizes is not None
    for k, size in enumerate(batch.sizes.tolist()):
        rows, columns = (bright[k].any(axis).nonzero()[:, 0] for axis in (1, 0))
        assert size == [int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1]
        cut = whole[k, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert torch.equal(batch.images[k, 0, : size[0], : size[1]], cut)
        assert not batch.images[k, 0, size[0] :].any()
        assert not batch.images[k, 0, :, size[1] :].any()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("warped-digits:warp=-0.1", "warp of task 'warped-digits'.*from 0 to 1"),
        ("warped-digits:warp=2", "from 0 to 1"),
        ("warped-digits:image-size=1", "image_size of task 'warped-digits'.*at least 2"),
    ],
)
def test_options_out_of_range_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build(spec)


def test_a_batch_has_at_least_one_image() -> None:
    with pytest.raises(ConfigurationError, match="batch_size"):
        warped_digits().batches("training", 0)
