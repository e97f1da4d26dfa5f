"""The suite that every layer of images inherits."""

import abc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from throughtime.core.errors import LengthsError, ShapeError
from throughtime.core.state import state_tensors


class GridConformance(abc.ABC):
    """The rules of layers that read images of several sizes. Inherit it, supply `make_layer`.

    A layer is called as layer(x, sizes, mask=mask), with x of (height, width, batch, input), and
    returns its outputs, 0 beyond each image, and states of (scan, batch, ...). It has
    `output_sizes`. It is run in float64 on the CPU, in evaluation mode.

    Attributes:
        input_size: width of a pixel.
        tolerance: largest difference between an image alone and the same image in a batch.

    Example:
        class TestMyLayer(GridConformance):
            def make_layer(self):
                return MyLayer(self.input_size, 4)
    """

    input_size = 3
    tolerance = 1e-12

    @abc.abstractmethod
    def make_layer(self) -> nn.Module:
        """Return a small layer of inputs of `input_size`."""

    def test_an_image_alone_equals_itself_in_company(self) -> None:
        """Neither other images nor their sizes change outputs, states or gradients."""
        layer, x, sizes = self._case()
        whole = _run(layer, x, sizes)
        for image, (height, width) in enumerate(sizes.tolist()):
            alone = _run(layer, x[:height, :width, image : image + 1])
            rows, columns = layer.output_sizes(sizes)[image].tolist()  # pyright: ignore
            _close(alone[0][:, :, 0], whole[0][:rows, :columns, image], self.tolerance)
            for one, other in zip(alone[1:-1], whole[1:-1], strict=True):
                _close(one[:, 0], other[:, image], self.tolerance)
            _close(alone[-1][:, :, 0], whole[-1][:height, :width, image], self.tolerance)

    def test_a_padded_image_equals_itself_without_padding(self) -> None:
        """Padding changes no bit of outputs, states and gradients."""
        layer, x, _ = self._case()
        x = x[:, :, :1]
        expected = _run(layer, x)
        padded = torch.full((x.shape[0] + 3, x.shape[1] + 2, 1, self.input_size), 7.0).to(x)
        padded[: x.shape[0], : x.shape[1]] = x
        found = _run(layer, padded, torch.tensor([x.shape[:2]]))
        cut = found[0][: expected[0].shape[0], : expected[0].shape[1]]
        assert torch.equal(cut, expected[0])
        assert all(torch.equal(*pair) for pair in zip(found[1:-1], expected[1:-1], strict=True))
        assert torch.equal(found[-1][: x.shape[0], : x.shape[1]], expected[-1])

    def test_nothing_beyond_an_image_is_read_or_written(self) -> None:
        """NaN in the padding reaches nothing; outputs there are 0, and so are gradients."""
        layer, x, sizes = self._case()
        expected = _run(layer, x, sizes)
        outside = ~_inside(x, sizes)
        found = _run(layer, torch.where(outside[..., None], torch.nan, x), sizes)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        assert not found[-1][outside].any()
        beyond = ~_inside(found[0], layer.output_sizes(sizes))  # pyright: ignore
        assert not found[0][beyond].any()

    def test_a_mask_says_the_same_as_sizes(self) -> None:
        """Results are equal; with both, they have to agree."""
        layer, x, sizes = self._case()
        mask = _inside(x, sizes)
        for options in ({"mask": mask}, {"mask": mask, "sizes": sizes}):
            for one, other in zip(_run(layer, x, **options), _run(layer, x, sizes), strict=True):
                assert torch.equal(one, other)
        with pytest.raises(LengthsError, match="mask of image 1"):
            layer(x, sizes + torch.tensor([[0, 0], [1, 0], [0, 0]]), mask=mask)

    def test_images_without_pixels_are_refused(self) -> None:
        """The message names the image."""
        layer, x, sizes = self._case()
        for rows, columns in ((0, 2), (2, 0)):
            with pytest.raises(ShapeError, match=f"{rows} x {columns} pixels"):
                layer(x[:rows, :columns])
        sizes[2, 1] = 0
        with pytest.raises(LengthsError, match=r"size of image 2: got \d+ x 0"):
            layer(x, sizes)

    def test_sizes_and_masks_that_do_not_fit_are_refused(self) -> None:
        """Too large, too few, no whole numbers; a mask of another shape, or no rectangle."""
        layer, x, sizes = self._case()
        with pytest.raises(LengthsError, match=r"size of image 0: got 99 x \d+"):
            layer(x, torch.cat([torch.tensor([[99, 1]]), sizes[1:]]))
        with pytest.raises(LengthsError, match="a height and a width for each image"):
            layer(x, sizes[:2])
        with pytest.raises(LengthsError, match="whole numbers"):
            layer(x, sizes.double())
        mask = _inside(x, sizes)
        with pytest.raises(ShapeError, match="mask"):
            layer(x, mask=mask[1:])
        mask[0, 0, 1] = False
        with pytest.raises(LengthsError, match=r"mask of image 1.*a rectangle"):
            layer(x, mask=mask)

    def test_gradients_are_those_of_finite_differences(self) -> None:
        """First and second derivatives, of inputs and parameters."""
        layer, x, sizes = self._case()
        x, sizes = x[:3, :2, :2].clone().requires_grad_(), sizes[:2].clamp(max=2)
        own = list(layer.parameters())

        def run(x: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
            return tuple(_results(layer, x, sizes))

        assert torch.autograd.gradcheck(run, (x, *own), fast_mode=True)
        assert torch.autograd.gradgradcheck(run, (x, *own), fast_mode=True)

    def _case(self) -> tuple[nn.Module, Tensor, Tensor]:
        torch.manual_seed(0)
        layer = self.make_layer().double().eval()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(0, 0.4)
        sizes = torch.tensor([[4, 5], [2, 3], [3, 1]])
        return layer, torch.randn(4, 5, 3, self.input_size, dtype=torch.float64), sizes


def _results(layer: nn.Module, x: Tensor, sizes: Any = None, mask: Any = None) -> list[Tensor]:
    output, state = layer(x, sizes, mask=mask)
    return [output, *state_tensors(state)]


def _run(layer: nn.Module, x: Tensor, sizes: Any = None, mask: Any = None) -> list[Tensor]:
    """Return outputs, states, and the gradient of the input."""
    x = x.clone().requires_grad_()
    found = _results(layer, x, sizes, mask)
    loss = torch.stack([(f.cos() - 1).sum() for f in found]).sum()
    return [*(f.detach() for f in found), *torch.autograd.grad(loss, [x])]


def _inside(grid: Tensor, sizes: Tensor) -> Tensor:
    rows = torch.arange(grid.shape[0])[:, None, None] < sizes[:, 0]
    return rows & (torch.arange(grid.shape[1])[:, None] < sizes[:, 1])


def _close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
