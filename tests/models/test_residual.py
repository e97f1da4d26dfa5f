"""Residual networks: equations, depth, recomputation, bad options."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.models import ResidualBlock, ResidualNetwork, build_model, recomputed
from throughtime.tasks.kinds import Classes, Images, Tokens
from throughtime.testing import DepthConformance

IMAGES = Images(6, 5, 2)


class Conformance(DepthConformance):
    options: ClassVar[dict[str, object]]

    def make_network(self, recompute: bool) -> nn.Module:
        return ResidualNetwork(IMAGES, Classes(3), recompute=recompute, **self.options)  # pyright: ignore

    def make_batch(self) -> Tensor:
        return torch.randn(4, 2, 6, 5)


class TestPreactivation(Conformance):
    options: ClassVar = {"depth": 23, "widths": (6, 4)}


class TestOriginal(Conformance):
    options: ClassVar = {"depth": 18, "kind": "original", "widths": (5,)}


class TestPlain(Conformance):
    options: ClassVar = {"depth": 18, "kind": "plain", "widths": (5,)}


class TestConvolutions(Conformance):
    options: ClassVar = {"depth": 18, "maps": "convolution", "widths": (3, 4)}


class TestOriginalConvolutions(Conformance):
    options: ClassVar = {"depth": 18, "kind": "original", "maps": "convolution", "widths": (3, 4)}


def _normed(x: Tensor, norm: nn.Module) -> Tensor:
    axes = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    centred = x - x.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    return centred / (variance + 1e-5).sqrt() * norm.weight.view(shape) + norm.bias.view(shape)  # pyright: ignore


def _convolved(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A convolution as a sum over places of the kernel."""
    size, (height, width) = weight.shape[-1], x.shape[2:]
    side = size // 2
    padded = torch.zeros(*x.shape[:2], height + 2 * side, width + 2 * side).to(x)
    padded[:, :, side : side + height, side : side + width] = x
    parts = [
        torch.einsum(
            "bchw,oc->bohw",
            padded[:, :, i : i + height : stride, j : j + width : stride],
            weight[:, :, i, j],
        )
        for i in range(size)
        for j in range(size)
    ]
    return torch.stack(parts).sum(0)


@pytest.mark.parametrize("kind", ["plain", "original", "preactivation"])
@pytest.mark.parametrize("maps", ["linear", "convolution"])
@pytest.mark.parametrize("changes", [False, True])
def test_blocks_equal_their_equations(kind: str, maps: str, changes: bool) -> None:
    torch.manual_seed(0)
    stride = 2 if changes and maps == "convolution" else 1
    block = ResidualBlock(3, 4 if changes else 3, kind, maps, stride=stride).double()  # pyright: ignore
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(5, 3, 5, 4).double() if maps == "convolution" else torch.randn(5, 3).double()
    w1, w2 = (each.get_parameter("weight") for each in block.maps)
    n1, n2 = block.norms

    def mapped(x: Tensor, w: Tensor, stride: int = 1) -> Tensor:
        return x @ w.T if w.dim() == 2 else _convolved(x, w, stride)

    shortcut = x
    if changes and kind != "plain":
        shortcut = mapped(x, block.shortcut.get_parameter("weight"), stride)
    zero = torch.zeros(())
    if kind == "preactivation":
        inner = mapped(torch.maximum(_normed(x, n1), zero), w1, stride)
        expected = shortcut + mapped(torch.maximum(_normed(inner, n2), zero), w2)
    else:
        inner = torch.maximum(_normed(mapped(x, w1, stride), n1), zero)
        inner = _normed(mapped(inner, w2), n2)
        expected = torch.maximum(inner + (shortcut if kind == "original" else 0), zero)
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 8])
def test_depth_is_the_number_of_layers_in_blocks(depth: int) -> None:
    network = ResidualNetwork(IMAGES, Classes(3), depth, kind="plain", widths=(4,))
    assert sum(isinstance(each, nn.Linear) for each in network.blocks.modules()) == depth
    assert network(torch.randn(2, 2, 6, 5)).shape == (2, 3)


def test_stages_share_out_the_blocks() -> None:
    network = ResidualNetwork(IMAGES, Classes(3), 12, maps="convolution", widths=(2, 3, 4))
    assert [len(block.maps[0].weight) for block in network.blocks] == [2, 2, 3, 3, 4, 4]  # pyright: ignore
    sides = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, __, out: sides.append(tuple(out.shape[2:])))
    network(torch.randn(2, 2, 6, 5))
    assert sides == [(6, 5), (6, 5), (3, 3), (3, 3), (2, 2), (2, 2)]


def test_a_thousand_layers_recomputed() -> None:
    network = build_model("residual:depth=1000,widths=4,recompute=true", IMAGES, Classes(3))
    network(torch.randn(3, 2, 6, 5)).sum().backward()
    gradient = network.get_parameter("first.weight").grad
    assert gradient is not None
    assert bool(gradient.isfinite().all())
    assert bool((gradient != 0).any())
    assert {int(b) for n, b in network.named_buffers() if n.endswith("tracked")} == {1}


def test_dropout_draws_the_same_numbers_again() -> None:
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    blocks = [nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5)).double() for _ in range(5)]
    found = []
    for segments in (None, 1, 5):
        torch.manual_seed(0)
        out = recomputed(blocks, x, segments)
        found.append((out, torch.autograd.grad(out.square().sum(), x)[0]))
    torch.manual_seed(0)
    expected = nn.Sequential(*blocks)(x)
    gradient = torch.autograd.grad(expected.square().sum(), x)[0]
    assert all(torch.equal(out, expected) and torch.equal(g, gradient) for out, g in found)


def test_buffers_come_back_if_the_backward_pass_fails() -> None:
    class Fails(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 1:
                raise RuntimeError("the second call")
            return x.sin()

    norm = nn.BatchNorm1d(3)
    buffer = norm.running_mean
    out = recomputed([norm, Fails()], torch.randn(4, 3, requires_grad=True), 1)
    with pytest.raises(RuntimeError, match="the second call"):
        out.sum().backward()
    assert norm.running_mean is buffer


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("residual:depth=0", "depth: got 0, expected at least 1 layer"),
        ("plain:depth=-3", "depth: got -3"),
        ("residual:widths=0", "widths of model 'residual'"),
        ("plain:widths=8x8", "widths of model 'plain'"),
        ("residual:depth=4,widths=2/3/4", "1 to 2 whole numbers"),
        ("residual:block=dense", "block"),
        ("plain:maps=lstm", "maps"),
    ],
)
def test_options_that_do_not_fit_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_model(spec, IMAGES, Classes(4))


@pytest.mark.parametrize("family", ["residual", "plain"])
def test_other_tasks_are_refused(family: str) -> None:
    for inputs, answers in ((Tokens(3), Classes(4)), (IMAGES, Classes(4, per_step=True))):
        with pytest.raises(ConfigurationError, match="expected images, and classes"):
            build_model(family, inputs, answers)


def test_images_that_do_not_fit_are_refused() -> None:
    network = build_model("residual:depth=2", IMAGES, Classes(4))
    with pytest.raises(ConfigurationError, match="images of one size"):
        network(torch.ones(2, 2, 6, 5), torch.tensor([[6, 5], [2, 3]]))
    with pytest.raises(ConfigurationError, match="got 1 image, expected at least 2"):
        network(torch.ones(1, 2, 6, 5))
    assert network.eval()(torch.ones(1, 2, 6, 5)).shape == (1, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ResidualBlock(0, 1, "plain"),
        lambda: ResidualBlock(1, 1, "plain", layers=3),
        lambda: ResidualBlock(1, 1, "plain", layers=0),
        lambda: ResidualBlock(1, 1, "original", stride=2),
        lambda: ResidualNetwork(IMAGES, Classes(2), 3, widths=()),
        lambda: recomputed([nn.ReLU()], torch.ones(1), 2),
        lambda: recomputed([nn.ReLU()], torch.ones(1), 0),
    ],
)
def test_numbers_out_of_range_are_refused(call) -> None:
    with pytest.raises(ConfigurationError):
        call()
