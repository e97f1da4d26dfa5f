"""PixelRNN and PixelCNN: dependences, naive recursions, enumeration, the law of samples."""

import itertools

import pytest
import torch

import throughtime as tt
from throughtime import errors
from throughtime.core.density import Density
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.select import recording
from throughtime.models import build_model
from throughtime.models.causal_convolution import CausalConvolution
from throughtime.models.diagonal_lstm import DiagonalBiLSTM
from throughtime.models.pixel_rnn import PixelCNN, PixelRNN
from throughtime.models.row_lstm import RowLSTM
from throughtime.tasks import TASKS
from throughtime.tasks.kinds import Likelihood, Pixels
from throughtime.testing import DensityConformance

needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
ENGINES = ["eager", pytest.param("native", marks=needs_compiler)]
MODELS = {
    "diagonal": lambda kind: PixelRNN(kind, 6, 1, engine="eager"),
    "row": lambda kind: PixelRNN(kind, 6, 2, layer="row"),
    "cnn": lambda kind: PixelCNN(kind, 6, 2),
}
of_each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
SIZES = [(3, 4), (1, 5), (4, 1), (2, 7), (5, 3)]


def model_of(make, kind: Pixels, scale: float = 2.0):
    """A model whose distribution is far from uniform."""
    torch.manual_seed(1)
    model = make(kind).double()
    for parameter in model.parameters():
        parameter.data *= scale
    return model


def window(reach, above: int, beside: int, own: bool):
    """What a convolution's features reach: (row, column, colour) to all of an image."""
    height, width, colours = reach.shape[:3]
    found = torch.zeros_like(reach)
    for r, c, k in itertools.product(range(height), range(width), range(colours)):
        for i, j in itertools.product(range(r - above, r + 1), range(c - beside, c + beside + 1)):
            if i >= 0 and 0 <= j < width and (i, j) < (r, c):
                found[r, c, k] |= reach[i, j].any(0)
        for other in range(k + 1 if own else k):
            found[r, c, k] |= reach[r, c, other]
    return found


def expected_reach(name: str, height: int, width: int, colours: int):
    """Which pixels and colours each logit reads, from the masks alone."""
    count = height * width * colours
    pixels = torch.eye(count, dtype=torch.bool).view(height, width, colours, count)
    if name == "diagonal":
        return torch.ones(count, count, dtype=torch.bool).tril(-1).view_as(pixels)
    x = window(pixels, 3, 3, False)
    for _ in range(2):
        if name == "cnn":
            x = x | window(x, 1, 1, True)
            continue
        y = window(x, 0, 1, True)
        for r, c in itertools.product(range(1, height), range(width)):
            y[r, c] |= y[r - 1, max(0, c - 1) : c + 2].flatten(0, 1).any(0)
        x = x | y
    return x


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_each_logit_reads_all_earlier_pixels_of_its_field_and_no_later_one(name, colours) -> None:
    height, width = (5, 9) if colours == 1 else (3, 6)
    kind = Pixels(height, width, colours, levels=2 if colours == 1 else 3)
    model = model_of(MODELS[name], kind, 1.0)
    for part in model.modules():
        if isinstance(part, CausalConvolution):
            part.bias.data += 2  # no ReLU is shut
    mix = torch.randn(kind.levels, dtype=torch.float64)
    image = torch.rand(1, colours, height, width, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x) @ mix, image)
    found = (jacobian[0, :, :, :, 0] != 0).permute(1, 2, 0, 4, 5, 3).flatten(3)
    assert torch.equal(found, expected_reach(name, height, width, colours))


def naive_lstm(u, before, above, w_before, w_above, memory):
    u = u + before @ w_before.T + above @ w_above.T
    i, f, g, o = u.chunk(4, -1)
    memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(memory), memory


def naive_diagonal(layer: DiagonalBiLSTM, x, image):
    """Pixel after pixel, from the equations."""
    height, width, batch, _ = x.shape
    zero = x.new_zeros(batch, layer.outputs)
    sides = {}
    for side, part, step in (("left", layer.left, 1), ("right", layer.right, -1)):
        h, c = {}, {}
        read = x if side == "left" else torch.cat([x, image], -1)
        for r in range(height):
            for k in range(width)[::step]:
                u = read[r, k] @ part.inputs.masked().T + part.inputs.bias
                before = h.get((r, k - step), zero)
                above, memory = h.get((r - 1, k), zero), c.get((r, k - step), zero)
                h[r, k], c[r, k] = naive_lstm(u, before, above, part.before, part.above, memory)
        sides[side] = h
    return torch.stack(
        [
            torch.stack(
                [sides["left"][r, k] + sides["right"].get((r - 1, k), zero) for k in range(width)]
            )
            for r in range(height)
        ]
    )


def naive_row(layer: RowLSTM, x, image):
    del image
    height, width, batch, inputs = x.shape
    zero, nothing = x.new_zeros(batch, layer.outputs), x.new_zeros(batch, inputs)
    h, c = {}, {}
    for r, k in itertools.product(range(height), range(width)):
        read = torch.cat([x[r, k - 1] if k else nothing, x[r, k]], -1)
        u = read @ layer.inputs.masked().T + layer.inputs.bias
        above = torch.cat([h.get((r - 1, j), zero) for j in (k - 1, k, k + 1)], -1)
        nothing_more = torch.zeros_like(layer.above[:, : layer.outputs])
        memory = c.get((r - 1, k), zero)
        h[r, k], c[r, k] = naive_lstm(u, zero, above, nothing_more, layer.above, memory)
    return torch.stack([torch.stack([h[r, k] for k in range(width)]) for r in range(height)])


def same_with_gradients(layer, naive, size, colours: int) -> None:
    x = torch.randn(*size, 3, 7, dtype=torch.float64, requires_grad=True)
    image = torch.rand(*size, 3, colours, dtype=torch.float64, requires_grad=True)
    found, expected = layer(x, image), naive(layer, x, image)
    torch.testing.assert_close(found, expected)
    above, read = torch.randn_like(found), [x, image, *layer.parameters()]
    torch.testing.assert_close(
        *(
            torch.autograd.grad(y, read, above, allow_unused=True, materialize_grads=True)
            for y in (found, expected)
        )
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_diagonal_layer_is_the_naive_recursion(engine, colours, size) -> None:
    layer = DiagonalBiLSTM(7, 5, colours=colours, engine=engine).double()
    same_with_gradients(layer, naive_diagonal, size, colours)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_row_layer_is_the_naive_recursion(colours, size) -> None:
    same_with_gradients(RowLSTM(7, 5, colours=colours).double(), naive_row, size, colours)


@pytest.mark.parametrize("engine", ENGINES)
def test_on_one_row_the_diagonal_layer_is_our_lstm(engine) -> None:
    layer, lstm = DiagonalBiLSTM(4, 5, engine=engine), tt.LSTM(4, 5)
    with torch.no_grad():
        layer.left.inputs.weight.copy_(lstm.weight_ih_l0)
        layer.left.inputs.bias.copy_(lstm.bias_ih_l0 + lstm.bias_hh_l0)
        layer.left.before.copy_(lstm.weight_hh_l0)
    x = torch.randn(9, 3, 4)
    found = layer(x[None], torch.zeros(1, 9, 3, 1))[0]
    torch.testing.assert_close(found, lstm(x)[0])


@needs_compiler
def test_the_engine_that_is_named_runs() -> None:
    x, image = torch.randn(3, 4, 2, 4), torch.rand(3, 4, 2, 1)
    for engine, expected in (("auto", 2), ("native", 2), ("eager", 0)):
        with recording() as names:
            DiagonalBiLSTM(4, 3, engine=engine)(x, image)
        assert names == ["native"] * expected
    layer = DiagonalBiLSTM(4, 3)
    expected = torch.func.vmap(lambda i: layer(x, i))(image[None])[0]  # by diagonals
    torch.testing.assert_close(layer(x, image), expected)
    with pytest.raises(errors.EngineRefusalError):
        DiagonalBiLSTM(4, 3, engine="native").bfloat16()(x.bfloat16(), image.bfloat16())


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_of_the_diagonal_model(engine) -> None:
    model = PixelRNN(Pixels(2, 3), 2, engine=engine).double()
    check_gradients(model)


@pytest.mark.parametrize("name", ["row", "cnn"])
def test_gradients(name) -> None:
    kind = Pixels(2, 2)
    check_gradients(
        (PixelRNN(kind, 2, layer="row") if name == "row" else PixelCNN(kind, 2, 1)).double()
    )


def check_gradients(model) -> None:
    x = torch.randint(2, (2, 1, model.kind.height, model.kind.width))
    parameters = tuple(model.parameters())  # which gradcheck changes in place
    assert torch.autograd.gradcheck(lambda *_: model.log_prob(x), parameters, fast_mode=True)


class Conformance(DensityConformance):
    spec = "pixelrnn:hidden=4"

    def make_model(self, kind):
        return build_model(self.spec, kind, Likelihood())


class TestDiagonalConformance(Conformance):
    pass


class TestRowConformance(Conformance):
    spec = "pixelrnn:hidden=4,layers=2,layer=row"


class TestPixelCNNConformance(Conformance):
    spec = "pixelcnn:hidden=4,layers=2"


class TestColours(Conformance):
    kind = small = Pixels(2, 1, 3)


class TestColoursAndLevels(TestRowConformance):
    kind = small = Pixels(2, 1, 2, levels=3)


class TestLevels(TestPixelCNNConformance):
    kind = small = Pixels(2, 2, levels=4)


@of_each_model
def test_known_pixels_that_come_later_are_read_when_the_order_comes_to_them(make) -> None:
    kind = Pixels(2, 3, 3)
    model = model_of(make, kind)
    known = torch.full((4, 3, 2, 3), -1)
    known[:2, 1, :, 1:], known[2:, :, 1] = 1, 0
    x, log_prob = model.sample_and_log_prob(4, known=known)
    assert (x == known)[known >= 0].all()
    each = model.logits(x).log_softmax(-1).gather(-1, x[..., None])[..., 0]
    torch.testing.assert_close(log_prob, (each * (known < 0)).flatten(1).sum(1))


@of_each_model
def test_logits_and_log_prob_agree(make) -> None:
    for kind in (Pixels(2, 3), Pixels(2, 2, 3, 256)):
        model = model_of(make, kind)
        x = torch.randint(kind.levels, (3, kind.channels, kind.height, kind.width))
        each = model.logits(x).log_softmax(-1).gather(-1, x[..., None])
        torch.testing.assert_close(model.log_prob(x), each.flatten(1).sum(1))


@of_each_model
def test_bad_input_is_refused(make, unchecked) -> None:
    model = make(Pixels(3, 4, 1, 4))
    x = torch.randint(4, (2, 1, 3, 4))
    for wrong in (x[:, :, 1:], x[:, 0], x.expand(2, 3, 3, 4), x.transpose(2, 3)):
        with pytest.raises(errors.ShapeError, match=r"expected \(batch, 1, 3, 4\)"):
            model.logits(wrong)
    for wrong in (x + 4, x - 5, x / 3 + 0.1, x * torch.nan):
        with pytest.raises(errors.ConfigurationError, match="whole numbers from 0 to 3"):
            model.logits(wrong)
    with pytest.raises(errors.ConfigurationError, match="-1 for an unknown"):
        model.sample(2, known=x - 7)
    with pytest.raises(errors.ShapeError, match="2 images, expected 1 or 5"):
        model.sample(5, known=x)


def test_sizes_and_names_are_checked(unchecked) -> None:
    kind = Pixels(3, 4)
    for make in (PixelRNN, PixelCNN):
        for sizes in ((0, 1), (2, 0)):
            with pytest.raises(errors.ConfigurationError):
                make(kind, *sizes)
        with pytest.raises(errors.ConfigurationError, match="at least 3"):
            make(Pixels(3, 4, 3), 2)
        with pytest.raises(errors.ConfigurationError, match="at least 2"):
            make(Pixels(3, 4, 1, 1), 2)
    with pytest.raises(errors.UnknownNameError, match="diagonal"):
        PixelRNN(kind, 2, layer="diagnal")
    with pytest.raises(errors.UnknownNameError, match="native"):
        PixelRNN(kind, 2, engine="fast")
    with pytest.raises(errors.ConfigurationError, match="no pixel"):
        CausalConvolution(1, 2, own=False)


def test_models_by_name_train_on_the_task_of_images() -> None:
    task = TASKS.build("thresholded-digits")
    batch = next(task.batches("training", 4))
    for text in ("pixelrnn:hidden=3", "pixelrnn:layer=row,hidden=3", "pixelcnn:hidden=3,layers=2"):
        model = build_model(text, task.inputs, task.answers)
        assert isinstance(model, Density)
        score = task.score(model, batch, step=0)
        score.loss.backward()
        assert torch.isfinite(score.loss)
