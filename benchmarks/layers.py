"""A training step (forward and backward, all gradients, x included) of layers."""

import torch
from torch import Tensor, nn

import throughtime as tt
from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark

SHAPES = ((32, 784, 1, 128), (64, 200, 64, 256), (1, 1000, 16, 64))


class CellLoop(nn.Module):
    """`nn.LSTMCell` in a Python loop: what a user writes who needs the state at each step."""

    def __init__(self, layer: nn.LSTM):
        super().__init__()
        self.cell = nn.LSTMCell(layer.input_size, layer.hidden_size)
        own = dict(self.cell.named_parameters())
        for name, parameter in layer.named_parameters():
            setattr(self.cell, name.removesuffix("_l0"), parameter)
        assert len(own) == 4

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h = c = x.new_zeros(x.shape[1], self.cell.hidden_size)
        outputs = []
        for x_t in x.unbind(0):
            h, c = self.cell(x_t, (h, c))
            outputs.append(h)
        return torch.stack(outputs), (h, c)


class EquationLoop(nn.Module):
    """The equations in a Python loop: what a user writes for a cell of their own."""

    def __init__(self, layer: nn.LSTM):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        layer = self.layer
        h = c = x.new_zeros(x.shape[1], layer.hidden_size)
        outputs = []
        for x_t in x.unbind(0):
            gates = nn.functional.linear(x_t, layer.weight_ih_l0, layer.bias_ih_l0)
            gates = gates + nn.functional.linear(h, layer.weight_hh_l0, layer.bias_hh_l0)
            i, f, g, o = gates.chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs), (h, c)


@benchmark("layers")
def layers(rounds: int) -> list[Row]:
    """tt.LSTM by both engines against nn.LSTM and two Python loops, on the same weights."""
    rows = []
    for batch, time, width, hidden in SHAPES:
        torch.manual_seed(0)
        theirs = nn.LSTM(width, hidden)
        modules: dict[str, nn.Module] = {
            "nn.LSTM": theirs,
            "loop over nn.LSTMCell": CellLoop(theirs),
            "loop over the equations": EquationLoop(theirs),
        }
        for engine in ("vendor", "eager"):
            ours = tt.LSTM(width, hidden, engine=engine)
            ours.load_state_dict(theirs.state_dict())
            modules[f"tt.LSTM, {engine}"] = ours
        x = torch.randn(time, batch, width, requires_grad=True)
        weights = torch.randn(time, batch, hidden)
        runs = {name: _Step(module, x, weights) for name, module in modules.items()}
        _check(runs)
        case = f"B={batch} T={time} I={width} H={hidden}"
        ours_vendor = {name: runs[name] for name in ("nn.LSTM", "tt.LSTM, vendor")}
        rows += compare(case, ours_vendor, "nn.LSTM", 3 * rounds)
        for loop in ("loop over nn.LSTMCell", "loop over the equations"):
            pair = {name: runs[name] for name in (loop, "tt.LSTM, eager")}
            rows += compare(case, pair, loop, rounds)
    return rows


class _Step:
    def __init__(self, module: nn.Module, x: Tensor, weights: Tensor):
        self.module, self.x, self.weights = module, x, weights
        self.leaves = [x, *module.parameters()]

    def __call__(self) -> list[Tensor]:
        output = self.module(self.x)[0]
        return [output, *torch.autograd.grad((output * self.weights).sum(), self.leaves)]


def _check(runs: dict[str, _Step]) -> None:
    """No figure without the same results: outputs, and gradients relative to their size."""
    expected = runs["nn.LSTM"]()
    for name, run in runs.items():
        for got, wanted in zip(run(), expected, strict=True):
            scale = wanted.detach().abs().max().clamp(min=1e-6)
            error = float((got - wanted).detach().abs().max() / scale)
            if not error < 1e-3:
                raise SystemExit(f"{name} differs from nn.LSTM by {error:.1e}: nothing is reported")
