"""Layers of images: a naive recursion, sequences as images of one row, gain, bad input."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import throughtime as tt
from throughtime.core.errors import ConfigurationError, DtypeError, OptionTypeError, ShapeError
from throughtime.structures import Grid
from throughtime.testing import GridConformance

CORNERS = (("upper", "left"), ("lower", "right"), ("upper", "right"), ("lower", "left"))


class TestLSTM(GridConformance):
    def make_layer(self) -> nn.Module:
        return tt.GridLSTM(self.input_size, 2)


class TestDeepLSTM(GridConformance):
    def make_layer(self) -> nn.Module:
        return tt.GridLSTM(self.input_size, 2, 2, directions=3, blocks=[(2, 1), (1, 2)])


class TestTanh(GridConformance):
    def make_layer(self) -> nn.Module:
        return tt.GridRNN(self.input_size, 2, directions=2, bias=False)


class TestReLU(GridConformance):
    def make_layer(self) -> nn.Module:
        return tt.GridRNN(self.input_size, 2, nonlinearity="relu", directions=1)


def drawn(layer: Any, deviation: float = 0.4) -> Any:
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter.normal_(0, deviation)
    return layer


def naive(layer: Any, image: Tensor, scan: int) -> tuple[dict, dict]:
    """h and c at each pixel of one scan of the first layer, pixel by pixel."""
    height, width, _ = image.shape
    w, left, above, b = (
        getattr(layer, f"{n}_l0")[scan]
        for n in ("weight_ih", "weight_left", "weight_above", "bias")
    )
    from_row, from_column = CORNERS[scan]
    down, right = 1 if from_row == "upper" else -1, 1 if from_column == "left" else -1
    zero = image.new_zeros(layer.hidden_size)
    h, c = {}, {}
    for row in range(height)[::down]:
        for column in range(width)[::right]:
            beside, over = (row, column - right), (row - down, column)
            sums = (
                w @ image[row, column] + b + left @ h.get(beside, zero) + above @ h.get(over, zero)
            )
            if isinstance(layer, tt.GridRNN):
                h[row, column] = sums.tanh() if layer.nonlinearity == "tanh" else sums.clamp(min=0)
                continue
            i, f_left, f_above, o, g = sums.split(layer.hidden_size)
            kept = f_left.sigmoid() * c.get(beside, zero) + f_above.sigmoid() * c.get(over, zero)
            c[row, column] = kept + i.sigmoid() * g.tanh()
            h[row, column] = o.sigmoid() * c[row, column].tanh()
    return h, c


@pytest.mark.parametrize(
    "make",
    [
        lambda: tt.GridLSTM(2, 3),
        lambda: tt.GridRNN(2, 3),
        lambda: tt.GridRNN(2, 3, nonlinearity="relu"),
    ],
)
@pytest.mark.parametrize("size", [(3, 4), (1, 4), (4, 1), (1, 1)])
def test_it_equals_a_naive_recursion_in_outputs_states_and_gradients(make, size) -> None:
    torch.manual_seed(0)
    layer, (height, width) = drawn(make()), size
    x = torch.randn(height, width, 1, 2, dtype=torch.float64, requires_grad=True)
    output, state = layer(x)
    states = state if isinstance(state, tuple) else (state,)
    outputs, ends = [], []
    for scan, (from_row, from_column) in enumerate(CORNERS):
        found = naive(layer, x[:, :, 0], scan)
        rows = [torch.stack([found[0][r, k] for k in range(width)]) for r in range(height)]
        outputs.append(torch.stack(rows))
        last = height - 1 if from_row == "upper" else 0, width - 1 if from_column == "left" else 0
        ends.append([each[last] for each in found if each])
    expected = torch.cat(outputs, -1)[:, :, None]
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    for k, of_scans in enumerate(zip(*ends, strict=True)):
        torch.testing.assert_close(states[k][:, 0], torch.stack(of_scans), rtol=1e-12, atol=1e-12)
    wanted = [x, *layer.parameters()]
    weights = torch.randn_like(output)
    for one, other in zip(
        torch.autograd.grad(output, wanted, weights),
        torch.autograd.grad(expected, wanted, weights, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_an_image_of_one_row_or_column_is_a_sequence(axis: int) -> None:
    torch.manual_seed(0)
    layer = drawn(tt.GridLSTM(2, 3, directions=2))
    lstm = tt.LSTM(2, 3, bidirectional=True).double()
    past = layer.weight_left_l0 if axis == 0 else layer.weight_above_l0
    with torch.no_grad():
        for scan, suffix in enumerate(("", "_reverse")):
            own = layer.weight_ih_l0[scan], past[scan], layer.bias_l0[scan]
            for name, weight in zip(("weight_ih", "weight_hh", "bias_ih"), own, strict=True):
                i, f_left, f_above, o, g = weight.chunk(5)
                rows = torch.cat([i, f_left if axis == 0 else f_above, g, o])
                getattr(lstm, f"{name}_l0{suffix}").copy_(rows)
            getattr(lstm, f"bias_hh_l0{suffix}").zero_()
    x = torch.randn(5, 2, 2, dtype=torch.float64)
    lengths = torch.tensor([5, 3])
    sizes = torch.stack([torch.ones_like(lengths), lengths], 1)
    sizes = sizes if axis == 0 else sizes.flip(1)
    output, (h, c) = layer(x.unsqueeze(axis), sizes)
    expected, (h_n, c_n) = lstm(x, lengths=lengths)
    for one, other in ((output.squeeze(axis), expected), (h, h_n), (c, c_n)):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_scan_has_as_many_steps_as_diagonals() -> None:
    for height, width in ((1, 1), (3, 7), (28, 28)):
        grid = Grid.of(height, width, 2)
        assert len(grid.counts) == height + width - 1
        assert sum(grid.counts) == 2 * height * width


def gain(layer: Any, image: Tensor) -> float:
    """Mean square change of the memory at the last corner, per one at the first corner."""
    x = image.repeat(1, 1, layer.hidden_size, 1).requires_grad_()  # an image for each unit
    found = []
    for part in (x, x[:1, :1]):  # at an image of one pixel, both corners are one
        state = layer(part)[1]
        memory = state[-1] if isinstance(state, tuple) else state
        (own,) = torch.autograd.grad(memory[0].diagonal().sum(), [x])
        found.append(own[0, 0].norm())
    return float(found[0] / found[1])


def paths(side: int, kept: float) -> float:
    """Product of the forget gates along each path between two corners, summed over paths."""
    steps = 2 * side - 2
    return math.exp(math.lgamma(steps + 1) - 2 * math.lgamma(side) + steps * math.log(kept))


@pytest.mark.parametrize(
    ("side", "kind"), [(28, "blank"), (28, "grey"), (28, "noise"), (244, "noise")]
)
def test_the_gain_from_corner_to_corner_at_the_start(side: int, kind: str) -> None:
    """From 0.01 to 10, and that of the memory alone, 1/2 from each neighbour."""
    torch.manual_seed(0)
    layer = tt.GridLSTM(1, 3, directions=1)
    image = {"blank": torch.zeros, "grey": torch.ones, "noise": torch.randn}[kind](side, side, 1, 1)
    found = gain(layer, image)
    assert 0.01 <= found <= 10
    assert found == pytest.approx(paths(side, 0.5), rel=0.2)


def test_a_forget_bias_of_one_explodes() -> None:
    layer = tt.GridLSTM(1, 3, directions=1, forget_bias=1.0)
    expected = paths(28, 1 / (1 + math.exp(-1)))
    assert expected == pytest.approx(8.8e7, rel=0.01)
    assert gain(layer, torch.zeros(28, 28, 1, 1)) == pytest.approx(expected, rel=0.05)


def test_a_relu_network_has_that_gain_too() -> None:
    torch.manual_seed(0)
    layer = tt.GridRNN(1, 4, nonlinearity="relu", directions=1)
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").abs_()
    assert gain(layer, torch.rand(28, 28, 1, 1)) == pytest.approx(paths(28, 0.5), rel=0.3)


def test_batch_first() -> None:
    torch.manual_seed(0)
    layer, other = (
        tt.GridRNN(2, 3, blocks=(2, 2)),
        tt.GridRNN(2, 3, blocks=(2, 2), batch_first=True),
    )
    other.load_state_dict(layer.state_dict())
    x = torch.randn(4, 5, 2, 2)
    sizes = torch.tensor([[4, 5], [1, 2]])
    output, h = layer(x, sizes)
    turned, end = other(x.permute(2, 0, 1, 3), sizes)
    assert torch.equal(turned.permute(1, 2, 0, 3), output)
    assert torch.equal(end, h)


def test_blocks_read_the_pixels_of_a_block_as_one() -> None:
    torch.manual_seed(0)
    layer = drawn(tt.GridLSTM(1, 2, blocks=(2, 3)))
    plain = drawn(tt.GridLSTM(6, 2))
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(3, 4, 1, 1, dtype=torch.float64)
    whole = torch.zeros(4, 6, dtype=torch.float64)
    whole[:3, :4] = x[..., 0, 0]
    blocks = [[whole[r : r + 2, k : k + 3].flatten() for k in (0, 3)] for r in (0, 2)]
    read = torch.stack([torch.stack(row) for row in blocks])[:, :, None]
    assert torch.equal(layer(x)[0], plain(read)[0])


def test_other_precisions_and_modes() -> None:
    torch.manual_seed(0)
    layer = drawn(tt.GridLSTM(2, 3, directions=2))
    x = torch.randn(3, 4, 1, 2, dtype=torch.float64)
    expected = layer(x)[0]
    with torch.inference_mode():
        assert torch.equal(layer(x)[0], expected)
    found = torch.func.vmap(lambda image: layer(image[:, :, None])[0], in_dims=2)(x)
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-12)
    tangent = torch.func.jvp(lambda image: layer(image)[0], (x,), (torch.ones_like(x),))[1]
    total = torch.autograd.functional.jvp(lambda y: layer(y)[0], x, torch.ones_like(x))[1]
    torch.testing.assert_close(tangent, total, rtol=1e-10, atol=1e-12)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer.float()(x.float())[0]
    torch.testing.assert_close(output.double(), expected, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hidden_size": 0}, ConfigurationError, "hidden_size"),
        ({"num_layers": 0}, ConfigurationError, "num_layers"),
        ({"directions": 5}, ConfigurationError, "directions.*1, 2, 3 or 4"),
        ({"blocks": (0, 1)}, ConfigurationError, "side of blocks.*at least 1"),
        ({"blocks": [(1, 1), (2, 2)]}, ConfigurationError, "one block for each of 1 layers"),
        ({"blocks": (1, 2, 3)}, OptionTypeError, "blocks"),
        ({"blocks": 2}, OptionTypeError, "blocks"),
        ({"forget_bias": 1.0, "bias": False}, ConfigurationError, "forget_bias"),
        ({"forget_bias": math.nan}, ConfigurationError, "forget_bias"),
    ],
)
def test_options_out_of_range_are_refused(options, error, message, unchecked) -> None:
    with pytest.raises(error, match=message):
        tt.GridLSTM(**{"input_size": 2, "hidden_size": 3, **options})


def test_inputs_that_do_not_fit_are_refused(unchecked) -> None:
    layer = tt.GridRNN(2, 3)
    with pytest.raises(ShapeError, match=r"\(height, width, batch, input 2\)"):
        layer(torch.zeros(4, 4, 2))
    with pytest.raises(ShapeError, match=r"\(batch, height, width, input 2\)"):
        tt.GridRNN(2, 3, batch_first=True)(torch.zeros(4, 4, 1, 3))
    with pytest.raises(DtypeError, match="mask"):
        layer(torch.zeros(4, 4, 1, 2), mask=torch.ones(4, 4, 1))
    with pytest.raises(ConfigurationError, match="nonlinearity"):
        tt.GridRNN(2, 3, nonlinearity="sine")  # pyright: ignore[reportArgumentType]
