"""A sheet of images: its bytes, read back by the rules of PNG."""

import zlib

import numpy as np
import pytest

from throughtime.core.errors import ShapeError
from throughtime.reports.sheet import image_sheet, png


def read(content: bytes) -> np.ndarray:
    """The pixels of a PNG file without filters, whose sums are right."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        name = content[place + 4 : place + 8]
        chunks[name] = content[place + 8 : place + 8 + size]
        check = content[place + 8 + size : place + 12 + size]
        assert int.from_bytes(check, "big") == zlib.crc32(name + chunks[name])
        place += 12 + size
    assert [*chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height = (int.from_bytes(chunks[b"IHDR"][k : k + 4], "big") for k in (0, 4))
    channels = {0: 1, 2: 3}[chunks[b"IHDR"][9]]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_read_back(channels: int) -> None:
    pixels = np.arange(5 * 7 * channels, dtype=np.uint8).reshape(5, 7, channels)
    assert np.array_equal(read(png(pixels)), pixels)


def test_images_stand_side_by_side() -> None:
    images = np.arange(4).repeat(42 * 84).reshape(4, 1, 84, 42)
    sheet = read(image_sheet(images, 4, columns=3))[:, :, 0]
    assert sheet.shape == (2 * 85 + 1, 3 * 43 + 1)
    assert (sheet[0] == 96).all()
    assert (sheet[85] == 96).all()
    for number, (top, left) in enumerate(((1, 1), (1, 44), (1, 87), (86, 1))):
        assert (sheet[top : top + 84, left : left + 42] == 85 * number).all()
    assert (sheet[86:, 43:] == 96).all()


def test_small_images_are_enlarged() -> None:
    sheet = read(image_sheet(np.eye(3, dtype=int)[None, None], 2))
    assert sheet.shape == (86, 86, 1)
    assert (sheet[1:29, 1:29] == 255).all()
    assert not sheet[1:29, 29:57].any()


def test_unknown_pixels_are_grey() -> None:
    image = np.full((1, 1, 84, 84), -1)
    image[0, 0, 0] = 1
    sheet = read(image_sheet(image, 2))[:, :, 0]
    assert (sheet[1, 1:85] == 255).all()
    assert (sheet[2:85, 1:85] == 96).all()


def test_images_that_cannot_be_shown() -> None:
    for shape in ((0, 1, 2, 2), (1, 2, 2, 2)):
        with pytest.raises(ShapeError, match="images"):
            image_sheet(np.zeros(shape, int), 2)
