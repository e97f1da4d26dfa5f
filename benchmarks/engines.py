"""The native engine against torch.nn, a Python loop and torch.compile: training and inference."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

import throughtime as tt
from benchmarks.cells import USERS
from benchmarks.measure import compare
from benchmarks.peak import fma_peak
from benchmarks.registry import Row, benchmark

SHAPES = (
    (32, 784, 1, 128),
    (100, 784, 1, 100),
    (64, 200, 64, 256),
    (16, 100, 128, 512),
    (1, 1000, 16, 64),
    (8, 5000, 8, 64),
)
SMALL = ((1, 1000, 64, 64), (8, 200, 64, 64), (4, 200, 64, 256))
LAYERS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "LSTM": (nn.LSTM, tt.LSTM),
    "RNN": (nn.RNN, tt.RNN),
    "GRU": (nn.GRU, tt.GRU),
}


@benchmark("engines")
def engines(rounds: int) -> list[Row]:
    """Layers by the native engine against torch.nn's, and the share of the machine's peak."""
    rows: list[Row] = []
    for name in LAYERS:
        own = [_against_torch(name, shape, rounds) for shape in SHAPES]
        trained = [row for pair in own for row in pair if row.case.startswith("train")]
        means = _geometric_mean(row.ratio for row in trained)
        rows += [row for pair in own for row in pair]
        rows.append(Row(f"train {name}, six shapes", "native", f"nn.{name}", means, means, means))
    return rows + shares(USERS, rounds) + _loops(rounds)


@benchmark("small")
def small(rounds: int) -> list[Row]:
    """Small batches by the native engine against torch.nn's, and the rates of training steps."""
    rows: list[Row] = []
    for name in ("LSTM", "GRU"):
        for shape in SMALL:
            own = _against_torch(name, shape, rounds)
            took = own[0].milliseconds
            assert took is not None, "a comparison measures times"
            rate = _products(pair_of(name, shape)[1], shape[0] * shape[1]) / took / 1e6
            rows += [*own, Row(own[0].case, "native", "", rate, rate, rate, "GFLOP/s")]
    return rows


def _against_torch(name: str, shape: tuple[int, int, int, int], rounds: int) -> list[Row]:
    theirs, ours = pair_of(name, shape)
    x, weights = data_of(shape)
    runs = {f"nn.{name}": Step(theirs, x, weights), "native": Step(ours, x, weights)}
    check(runs, f"nn.{name}")
    inferences = {label: Inference(run) for label, run in runs.items()}
    case = case_of(name, shape)
    return [
        *compare(f"train {case}", runs, f"nn.{name}", rounds),
        *compare(f"infer {case}", inferences, f"nn.{name}", rounds),
    ]


def shares(cells: Mapping[str, Callable[[int, int], tt.GatedCell]], rounds: int) -> list[Row]:
    """Of the peak of fused multiply-adds, counting the matrix products of a training step.

    Arguments:
        cells: by name, made from input and hidden size; the LSTM is measured beside them.
        rounds: in which they take turns.
    """
    rows: list[Row] = []
    for shape in [s for s in SHAPES if s[3] >= 128]:
        batch, time, width, hidden = shape
        layers = {"LSTM": pair_of("LSTM", shape)[1]}
        layers |= {n: tt.Recurrent(c(width, hidden), engine="native") for n, c in cells.items()}
        x, weights = data_of(shape)
        shares: dict[str, list[float]] = {name: [] for name in layers}
        steps = {name: Step(layer, x, weights) for name, layer in layers.items()}
        for round_ in range(rounds + 1):
            for name, step in steps.items():
                peak = fma_peak(torch.get_num_threads(), 0.05)
                rate = _products(step.module, time * batch) / step.seconds()
                if round_:
                    shares[name].append(rate / peak)
        best = statistics.median(shares["LSTM"])
        for name, own in shares.items():
            low, middle, high = statistics.quantiles(own, n=4)
            case = case_of(name, shape)
            rows.append(Row(case, "native", "FMA peak", middle, low, high, "of the peak"))
            ratios = sorted(share / best for share in own)
            if name != "LSTM":
                low, middle, high = statistics.quantiles(ratios, n=4)
                rows.append(Row(case, "native", "LSTM's share", middle, low, high, "of it"))
    return rows


def _loops(rounds: int) -> list[Row]:
    """Against the step in a Python loop, plain and by torch.compile."""
    rows: list[Row] = []
    for shape in (SHAPES[0], SHAPES[2]):
        native = pair_of("LSTM", shape)[1]
        x, weights = data_of(shape)
        eager = tt.LSTM(shape[2], shape[3], engine="eager")
        eager.load_state_dict(native.state_dict())
        runs = {
            "Python loop": Step(eager, x, weights),
            "torch.compile of the step": Step(CompiledLoop(native), x, weights),
            "native": Step(native, x, weights),
        }
        check(runs, "Python loop")
        case = f"train {case_of('LSTM', shape)}"
        for peer in ("Python loop", "torch.compile of the step"):
            pair = {label: runs[label] for label in (peer, "native")}
            rows += compare(case, pair, peer, max(3, rounds // 2))
    return rows


class CompiledLoop(nn.Module):
    """The LSTM's step by torch.compile, in a Python loop."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

        def step(x, h, c, weight, bias):
            i, f, g, o = torch.addmm(x + bias, h, weight.t()).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c

        self.step = torch.compile(step)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        w = self.layer
        projected = nn.functional.linear(x, w.weight_ih_l0, w.bias_ih_l0)
        h = c = x.new_zeros(x.shape[1], w.hidden_size)
        outputs = []
        for x_t in projected.unbind(0):
            h, c = self.step(x_t, h, c, w.weight_hh_l0, w.bias_hh_l0)
            outputs.append(h)
        return torch.stack(outputs), None


class Step:
    """A training step: the outputs, and all gradients, that of the input included."""

    def __init__(self, module: nn.Module, x: Tensor, weights: Tensor):
        self.module, self.x, self.weights = module, x, weights
        self.leaves = [x, *(p for p in module.parameters() if p.requires_grad)]

    def __call__(self) -> list[Tensor]:
        output = self.module(self.x)[0]
        return [output, *torch.autograd.grad([output], self.leaves, [self.weights])]

    def seconds(self) -> float:
        """How long one takes."""
        import time

        start = time.perf_counter()
        self()
        return time.perf_counter() - start


class Inference:
    """The forward pass alone."""

    def __init__(self, step: Step):
        self.step = step

    def __call__(self) -> None:
        with torch.no_grad():
            self.step.module(self.step.x)


def check(runs: dict[str, Step], baseline: str) -> None:
    """No figure without the same results: outputs, and gradients relative to their size."""
    expected = runs[baseline]()
    for name, run in runs.items():
        for got, wanted in zip(run(), expected, strict=True):
            scale = wanted.detach().abs().max().clamp(min=1e-6)
            error = float((got - wanted).detach().abs().max() / scale)
            if not error < 1e-3:
                raise SystemExit(f"{name} differs from {baseline} by {error:.1e}: not reported")


def case_of(name: str, shape: tuple[int, int, int, int]) -> str:
    """A case in a few words."""
    batch, time, width, hidden = shape
    return f"{name} B={batch} T={time} I={width} H={hidden}"


def pair_of(name: str, shape: tuple[int, int, int, int]) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    theirs = LAYERS[name][0](shape[2], shape[3])
    ours = LAYERS[name][1](shape[2], shape[3], engine="native")
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def data_of(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    batch, time, width, hidden = shape
    x = torch.randn(time, batch, width, requires_grad=True)
    return x, torch.randn(time, batch, hidden)


def _products(module: nn.Module, rows: int) -> int:
    """Operations in the matrix products of a training step: forward, and twice that backward."""
    matrices = [p for p in module.parameters() if p.dim() == 2]
    return sum(3 * 2 * rows * p.numel() for p in matrices)


def _geometric_mean(values: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))
