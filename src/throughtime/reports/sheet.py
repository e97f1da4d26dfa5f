"""A sheet of small images as a PNG file."""

import math
import zlib

import numpy as np
from jaxtyping import Integer, UInt8

from throughtime.core.errors import ShapeError

_GAP = 96  # grey level between images
_LEAST_SIDE = 84  # pixels of the longer side of an image on the sheet


def image_sheet(
    images: Integer[np.ndarray, "count channels height width"],
    levels: int,
    *,
    columns: int | None = None,
) -> bytes:
    """Return images side by side as a PNG file: level 0 is black, the last level is white.

    Small images are enlarged by a whole number. A pixel's width of grey stands between them.

    Arguments:
        images: Levels of one channel or three, red, green and blue; -1 is shown as grey.
        levels: The number of levels.
        columns: Images of a row; None for a sheet about as wide as high.

    Raises:
        ShapeError: No image, or another number of channels.

    Example:
        >>> image_sheet(np.eye(3, dtype=int)[None, None], 2)[:4]
        b'\\x89PNG'
    """
    count, channels, height, width = images.shape
    if not count or channels not in (1, 3):
        raise ShapeError(
            "images", got=f"shape {images.shape}", expected="one image at least, of 1 or 3 channels"
        )
    usual = min(count, max(1, math.ceil(math.sqrt(count * (height + 1) / (width + 1)))))
    across = usual if columns is None else columns
    rows = math.ceil(count / across)
    enlarged = max(1, _LEAST_SIDE // max(height, width))
    grey = np.where(images < 0, _GAP, images.astype(np.int64) * 255 // max(1, levels - 1))
    grey = grey.astype(np.uint8)
    grey = grey.repeat(enlarged, 2).repeat(enlarged, 3).transpose(0, 2, 3, 1)
    high, wide = height * enlarged + 1, width * enlarged + 1
    sheet = np.full((rows * high + 1, across * wide + 1, channels), _GAP, np.uint8)
    for number, image in enumerate(grey):
        row, column = divmod(number, across)
        top, left = row * high + 1, column * wide + 1
        sheet[top : top + high - 1, left : left + wide - 1] = image
    return png(sheet)


def png(pixels: UInt8[np.ndarray, "height width channels"]) -> bytes:
    """Return an image of grey levels, or of red, green and blue, as a PNG file.

    Arguments:
        pixels: Levels from 0 to 255 of one channel or three.

    Source:
        ISO/IEC 15948, Portable Network Graphics.
    """
    height, width, channels = pixels.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each line begins with filter 0
    lines[:, 1:] = pixels.reshape(height, -1)
    colour = 0 if channels == 1 else 2
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, colour, 0, 0, 0))
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + name + content + check
