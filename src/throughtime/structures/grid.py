"""Grids of pixels: the order of the steps, and a scan of all images diagonal by diagonal."""

import dataclasses
import functools
import math
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from throughtime.core.errors import DtypeError, LengthsError, ShapeError


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """The pixels of a batch of images, from the upper left corner, diagonal by diagonal.

    Pixels of a diagonal do not read each other. The pixels inside the images have numbers from 1,
    in the order of the steps; 0 stands for each pixel outside.

    Attributes:
        rows, columns, images: (pixel,) place of each pixel.
        left, above, right, below: (pixel,) numbers of its neighbours.
        last: (batch,) number of the lower right pixel of each image.
        counts: number of pixels of each diagonal; height + width - 1 of them.
        sizes: (batch, 2) height and width of each image.

    Example:
        >>> grid = Grid.of(2, 3, 1)
        >>> grid.counts, grid.left.tolist(), grid.above.tolist()
        ([1, 2, 2, 1], [0, 1, 0, 2, 3, 5], [0, 0, 1, 0, 2, 4])
    """

    rows: Int[Tensor, " pixel"]
    columns: Int[Tensor, " pixel"]
    images: Int[Tensor, " pixel"]
    left: Int[Tensor, " pixel"]
    above: Int[Tensor, " pixel"]
    right: Int[Tensor, " pixel"]
    below: Int[Tensor, " pixel"]
    last: Int[Tensor, " batch"]
    counts: list[int]
    sizes: Int[Tensor, "batch 2"]

    @staticmethod
    def of(
        height: int, width: int, batch: int, sizes: Int[Tensor, "batch 2"] | None = None
    ) -> "Grid":
        """Return the grid of images of these sizes, on the CPU.

        Arguments:
            height, width: The padded size of all images.
            batch: The number of images.
            sizes: The height and width of each image, as `check_sizes` returns them; None where
                all fill the padded size.
        """
        return _full(height, width, batch) if sizes is None else _ragged(height, width, sizes)

    def to(self, device: torch.device) -> "Grid":
        """Return the grid with its tensors on a device.

        Arguments:
            device: The device of the states.
        """
        moved = {n: t.to(device) for n, t in vars(self).items() if isinstance(t, Tensor)}
        return dataclasses.replace(self, **moved)

    def places(
        self, width: int, *, upwards: bool = False, leftwards: bool = False
    ) -> Int[Tensor, " pixel"]:
        """Return the row of each pixel in a flattened (height, width, batch) array.

        Arguments:
            width: The padded width.
            upwards: If True, images are upside down: the scan runs from the bottom up.
            leftwards: If True, images are mirrored: the scan runs from the right.
        """
        rows, columns = self.rows, self.columns
        heights, widths = self.sizes.unbind(1)
        rows = heights[self.images] - 1 - rows if upwards else rows
        columns = widths[self.images] - 1 - columns if leftwards else columns
        return (rows * width + columns) * len(self.sizes) + self.images


@functools.lru_cache(maxsize=4)
def _full(height: int, width: int, batch: int) -> Grid:
    return _ragged(height, width, torch.tensor([[height, width]]).expand(batch, 2))


def _ragged(height: int, width: int, sizes: Tensor) -> Grid:
    batch = len(sizes)
    shape = (height, width, batch)
    rows = torch.arange(height)[:, None, None].expand(shape)
    columns = torch.arange(width)[None, :, None].expand(shape)
    inside = ((rows < sizes[:, 0]) & (columns < sizes[:, 1])).flatten()
    diagonals = (rows + columns).flatten()[inside]
    order = inside.nonzero()[:, 0][diagonals.argsort(stable=True)]
    numbers = torch.zeros(math.prod(shape), dtype=torch.int64)
    numbers[order] = torch.arange(1, len(order) + 1)
    padded = F.pad(numbers.view(shape), (0, 0, 1, 1, 1, 1))

    def neighbour(down: int, right: int) -> Tensor:
        return padded[1 + down :, 1 + right :][:height, :width].flatten()[order]

    last = ((sizes[:, 0] - 1) * width + sizes[:, 1] - 1) * batch + torch.arange(batch)
    return Grid(
        rows=rows.flatten()[order],
        columns=columns.flatten()[order],
        images=order % batch,
        left=neighbour(0, -1),
        above=neighbour(-1, 0),
        right=neighbour(0, 1),
        below=neighbour(1, 0),
        last=numbers[last],
        counts=diagonals.bincount().tolist(),
        sizes=sizes,
    )


def check_sizes(
    sizes: object,
    mask: Bool[Tensor, "height width batch"] | None,
    height: int,
    width: int,
    batch: int,
) -> Int[Tensor, "batch 2"] | None:
    """Return the sizes of images as int64 on the CPU; None if all fill the padded size.

    Arguments:
        sizes: (batch, 2) heights and widths, or None.
        mask: True for each pixel inside its image, or None; with sizes, both have to agree.
        height, width, batch: The shape of the padded images.

    Raises:
        ShapeError: an image without pixels, or a mask of another shape.
        DtypeError: a mask that is not Boolean.
        LengthsError: sizes that are no whole numbers from 1 to the padded size, one pair an image;
            a mask that is no rectangle from the upper left corner, or not that of the sizes.

    Example:
        >>> check_sizes([(2, 3), (1, 2)], None, 2, 3, 2).tolist()
        [[2, 3], [1, 2]]
    """
    if height < 1 or width < 1:
        raise ShapeError(
            "images", got=f"{height} x {width} pixels", expected="at least one row and one column"
        )
    found = None if sizes is None else _checked(sizes, height, width, batch)
    if mask is not None:
        own = _of_mask(mask, height, width, batch)
        if found is not None and bool((own != found).any()):
            image = int((own != found).any(1).nonzero()[0])
            raise LengthsError(
                f"mask of image {image}",
                got="{} x {} pixels".format(*own[image].tolist()),
                expected="{} x {}, its size".format(*found[image].tolist()),
                fix="Give the mask or the sizes alone.",
            )
        found = own
    if found is None or bool((found == torch.tensor([height, width])).all()):
        return None
    return found


def _checked(sizes: object, height: int, width: int, batch: int) -> Tensor:
    try:
        found = torch.as_tensor(sizes, device=None if isinstance(sizes, Tensor) else "cpu")
    except (TypeError, ValueError, RuntimeError):
        raise LengthsError(
            "sizes", got=type(sizes).__name__, expected="a height and a width for each image"
        ) from None
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise LengthsError("sizes", got=f"dtype {found.dtype}", expected="whole numbers")
    if tuple(found.shape) != (batch, 2):
        raise LengthsError(
            "sizes",
            got=f"shape {tuple(found.shape)}",
            expected=f"({batch}, 2): a height and a width for each image",
        )
    found = found.to("cpu", torch.int64, copy=True)
    outside = ((found < 1) | (found > torch.tensor([height, width]))).any(1)
    if outside.any():
        image = int(outside.nonzero()[0])
        raise LengthsError(
            f"size of image {image}",
            got="{} x {}".format(*found[image].tolist()),
            expected=f"from 1 x 1 to {height} x {width}, the padded size",
            fix="Leave empty images out of the batch.",
        )
    return found


def _of_mask(mask: Tensor, height: int, width: int, batch: int) -> Tensor:
    if tuple(mask.shape) != (height, width, batch):
        raise ShapeError(
            "mask",
            got=f"shape {tuple(mask.shape)}",
            expected=f"(height {height}, width {width}, batch {batch})",
        )
    if mask.dtype != torch.bool:
        raise DtypeError("mask", got=mask.dtype, expected="torch.bool")
    mask = mask.cpu()
    sizes = torch.stack([mask.any(1).sum(0), mask.any(0).sum(0)], 1)
    rows, columns = torch.arange(height)[:, None, None], torch.arange(width)[:, None]
    whole = (rows < sizes[:, 0]) & (columns < sizes[:, 1])
    wrong = (mask != whole).flatten(0, 1).any(0) | (sizes == 0).any(1)
    if wrong.any():
        image = int(wrong.nonzero()[0])
        raise LengthsError(
            f"mask of image {image}",
            got=f"{int(mask[..., image].sum())} pixels",
            expected="a rectangle of at least one pixel, from the upper left corner",
        )
    return sizes
