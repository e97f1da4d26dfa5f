"""The Diagonal BiLSTM beside the usual loop over skewed columns, on one thread."""

import functools
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.core.errors import ThroughtimeError
from throughtime.models.diagonal_lstm import DiagonalBiLSTM
from throughtime.models.pixel_rnn import PixelCNN, PixelRNN
from throughtime.tasks.kinds import Pixels

SIZES = ((16, 16), (16, 32), (100, 32))  # batch, hidden
IMAGES = Pixels(28, 28)


@benchmark("pixel_rnn")
def pixel_rnn(rounds: int) -> list[Row]:
    """Training steps of 28x28 binary images: the layer alone, and the model of one layer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [row for size in SIZES for row in _layers(*size, rounds)]
        return [*rows, *(row for size in SIZES for row in _models(*size, rounds))]
    finally:
        torch.set_num_threads(threads)


def _layers(batch: int, hidden: int, rounds: int) -> list[Row]:
    ours, usual = _pair(hidden)
    shape = (28, 28, batch, 2 * hidden)
    x, image = torch.randn(shape, requires_grad=True), torch.rand(*shape[:3], 1)
    above = torch.randn(28, 28, batch, hidden)

    def run(layer: nn.Module, read: Tensor, image: Tensor, above: Tensor) -> list[Tensor]:
        y = layer(read, image)
        return [y, *torch.autograd.grad(y, [read, *layer.parameters()], above)]

    as_usual = [t.detach().permute(2, 3, 0, 1).contiguous() for t in (x, image, above)]
    as_usual[0].requires_grad_()
    found, expected = run(ours, x, image, above), run(usual, *as_usual)
    _check(found[0].permute(2, 3, 0, 1), expected[0])
    _check(found[1].permute(2, 3, 0, 1), expected[1])
    runs = {
        "columns, Conv1d": lambda: run(usual, *as_usual),
        "diagonals, eager": lambda: run(_with(ours, "eager"), x, image, above),
        "DiagonalBiLSTM": lambda: run(_with(ours, "auto"), x, image, above),
    }
    case = f"layer, training step, B={batch} H={hidden}"
    return compare(case, runs, "columns, Conv1d", rounds)


def _models(batch: int, hidden: int, rounds: int) -> list[Row]:
    ours, usual = _pair(hidden)
    x = (torch.rand(batch, 1, 28, 28) < 0.13).long()
    model = PixelRNN(IMAGES, hidden)
    model.layers[0] = ours
    peer = _UsualModel(usual, model)

    models: dict[str, Any] = {
        "columns, Conv1d": peer,
        "PixelRNN": model,
        "PixelRNN, layer=row": PixelRNN(IMAGES, hidden, layer="row"),
        "PixelCNN, 7 layers": PixelCNN(IMAGES, hidden),
    }
    _check(model.log_prob(x), peer.log_prob(x))
    runs = {name: functools.partial(_training_step, each, x) for name, each in models.items()}
    case = f"model, training step, B={batch} H={hidden}"
    return compare(case, runs, "columns, Conv1d", rounds)


def _training_step(model: Any, x: Tensor) -> list[Tensor]:
    return [*torch.autograd.grad(-model.log_prob(x).mean(), list(model.parameters()))]


def _pair(hidden: int) -> tuple[DiagonalBiLSTM, "_Usual"]:
    torch.manual_seed(0)
    ours = DiagonalBiLSTM(2 * hidden, hidden)
    return ours, _Usual(ours)


def _with(layer: DiagonalBiLSTM, engine: Any) -> DiagonalBiLSTM:
    layer.left.engine = layer.right.engine = engine
    return layer


@final
class _Usual(nn.Module):
    """Skewed images, a Conv1d over the column before at each step, and autograd; same weights."""

    def __init__(self, like: DiagonalBiLSTM):
        super().__init__()
        self.inputs, self.states = nn.ModuleList(), nn.ModuleList()
        for part in (like.left, like.right):
            rows, width = part.inputs.weight.shape
            hidden = rows // 4
            inputs, states = nn.Conv2d(width, rows, 1), nn.Conv1d(hidden, rows, 2, bias=False)
            with torch.no_grad():
                inputs.weight.copy_(part.inputs.weight[..., None, None])
                assert inputs.bias is not None
                inputs.bias.copy_(part.inputs.bias)
                states.weight.copy_(torch.stack([part.above, part.before], -1))
            self.inputs.append(inputs)
            self.states.append(states)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        left = self._run(0, x)
        right = self._run(1, torch.cat([x, image], 1).flip(3)).flip(3)
        return left + F.pad(right, (0, 0, 1, 0))[:, :, :-1]

    def _run(self, i: int, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        # each row one place further to the right than the row above; gates are closed beside it
        skewed = F.pad(self.inputs[i](x), (0, height), value=-1e4).flatten(2)
        length = width + height - 1
        gates = skewed[..., : height * length].unflatten(2, (height, length))
        hidden = gates.shape[1] // 4
        h = c = gates.new_zeros(batch, hidden, height)
        columns: list[Tensor] = []
        for column in gates.unbind(3):  # gates[..., t] would cost a whole gradient each
            enter, f, g, o = (column + self.states[i](F.pad(h, (1, 0)))).chunk(4, 1)
            c = f.sigmoid() * c + enter.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            columns.append(h)
        y = F.pad(torch.stack(columns, 3).flatten(2), (0, height))
        return y.unflatten(2, (height, width + height))[..., :width]


@final
class _UsualModel(nn.Module):
    """`PixelRNN` of one layer by torch's convolutions."""

    def __init__(self, layer: _Usual, like: PixelRNN):
        super().__init__()
        width = like.first.bias.shape[0]
        self.first, self.layer = nn.Conv2d(1, width, 7, padding=3), layer
        self.joint, self.hidden, self.output = (
            nn.Conv2d(part.weight.shape[1], part.weight.shape[0], 1)
            for part in (like.joints[0], like.hidden, like.output)
        )
        mask = torch.zeros(7, 7)
        mask[:3], mask[3, :3] = 1, 1
        self.register_buffer("mask", mask)
        ours = (like.first, like.joints[0], like.hidden, like.output)
        theirs = (self.first, self.joint, self.hidden, self.output)
        with torch.no_grad():
            for to, part in zip(theirs, ours, strict=True):
                to.bias.copy_(part.bias)
                if to is not self.first:
                    to.weight.copy_(part.weight[..., None, None])
            self.first.weight.zero_()
            self.first.weight[:, 0, mask == 1] = like.first.weight

    def log_prob(self, x: Tensor) -> Tensor:
        image = x.float()
        y = F.conv2d(image, self.first.weight * self.mask, self.first.bias, padding=3)
        y = y + self.joint(self.layer(y, image))
        z = self.output(self.hidden(y.relu()).relu())
        return -F.binary_cross_entropy_with_logits(z, image, reduction="none").sum((1, 2, 3))


def _check(found: Tensor, expected: Tensor) -> None:
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
        raise ThroughtimeError("results differ: no figure is given")
