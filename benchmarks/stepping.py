"""One step at a time, and NADE's recurrence, beside loops of torch on one thread."""

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import throughtime as tt
from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.core.errors import ThroughtimeError
from throughtime.engines.autoregression import autoregression
from throughtime.models import LanguageModel

HIDDEN = (64, 256, 512)


@benchmark("stepping")
def stepping(rounds: int) -> list[Row]:
    """One step without gradient, one sequence: the stepper and the layer beside torch.nn's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            row
            for kind in ("LSTM", "GRU")
            for hidden in HIDDEN
            for row in (*_steps(kind, hidden, rounds), *_training(kind, hidden, rounds))
        ]
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _steps(kind: str, hidden: int, rounds: int) -> list[Row]:
    torch.manual_seed(0)
    cell: Any = getattr(nn, f"{kind}Cell")(hidden, hidden)
    theirs: Any = getattr(nn, kind)(hidden, hidden)
    ours: Any = getattr(tt, kind)(hidden, hidden)
    own = dict(cell.named_parameters())
    for layer in (theirs, ours):
        layer.load_state_dict({f"{name}_l0": p for name, p in own.items()})
    x, h = torch.randn(1, hidden), torch.randn(1, hidden)
    state: Any = (h, torch.randn(1, hidden)) if kind == "LSTM" else h
    levels = tuple(s[None] for s in state) if kind == "LSTM" else h[None]
    stepper = ours.stepper(1)
    after = cell(x, state)
    expected = after[0] if kind == "LSTM" else after
    _check(stepper(x, levels), expected)
    _check(ours(x[None], levels)[0][0], expected)
    runs = {
        f"nn.{kind}Cell": _many(lambda: cell(x, state)),
        f"nn.{kind}": _many(lambda: theirs(x[None], levels)),
        "stepper": _many(lambda: stepper(x)),
        "layer(x, state)": _many(lambda: ours(x[None], levels)),
    }
    case = f"{kind}, one step, B=1 H={hidden}"
    whole = {name: runs[name] for name in (f"nn.{kind}", "layer(x, state)")}
    cells = {name: run for name, run in runs.items() if name != f"nn.{kind}"}
    return [
        *compare(case, cells, f"nn.{kind}Cell", rounds),
        *compare(case, whole, f"nn.{kind}", rounds),
    ]


def _training(kind: str, hidden: int, rounds: int) -> list[Row]:
    theirs: Any = getattr(nn, kind)(hidden, hidden)
    ours: Any = getattr(tt, kind)(hidden, hidden)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 1, hidden)
    _check(ours(x)[0], theirs(x)[0])

    def step(layer: nn.Module) -> Callable[[], Any]:
        weights = list(layer.parameters())
        return _many(lambda: torch.autograd.grad(layer(x)[0].sum(), weights), 10)

    runs = {f"nn.{kind}": step(theirs), "ours": step(ours)}
    return compare(f"{kind}, training step, T=1 B=1 H={hidden}", runs, f"nn.{kind}", rounds)


@benchmark("generation")
def generation(rounds: int) -> list[Row]:
    """1,000 characters of an alphabet of 65 from one level of 256 units, beside loops of peers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [row for kind in ("LSTM", "GRU") for row in _generation(kind, rounds)]
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _generation(kind: str, rounds: int) -> list[Row]:
    torch.manual_seed(0)
    alphabet, hidden, steps = 65, 256, 1000
    model = LanguageModel(getattr(tt, kind)(alphabet, hidden))
    cell: Any = getattr(nn, f"{kind}Cell")(alphabet, hidden)
    cell.load_state_dict({n[:-3]: p for n, p in model.recurrent.state_dict().items()})
    readout, embedding, start = model.readout, torch.eye(alphabet), torch.tensor([[0]])

    def torch_loop(count: int = steps, greedy: bool = False) -> list[int]:
        h = torch.zeros(1, hidden)
        state: Any = (h, h) if kind == "LSTM" else h
        symbol, text = start[0], []
        for _ in range(count):
            state = cell(embedding[symbol], state)
            logits = readout(state[0] if kind == "LSTM" else state)
            symbol = logits.argmax(-1) if greedy else torch.multinomial(logits.softmax(-1), 1)[0]
            text.append(int(symbol))
        return text

    session = _one_step_session(cell, readout, kind)

    def onnx_loop(count: int = steps, greedy: bool = False) -> list[int]:
        random = np.random.default_rng(0)
        state = [np.zeros((1, hidden), np.float32)] * (2 if kind == "LSTM" else 1)
        rows, symbol, text = embedding.numpy(), 0, []
        for _ in range(count):
            given = {f"s{i}": s for i, s in enumerate(state)} | {"x": rows[[symbol]]}
            logits, *state = session.run(None, given)
            if greedy:
                symbol = int(logits[0].argmax())
            else:
                p = np.exp(logits[0] - logits[0].max())
                symbol = int(np.searchsorted(np.cumsum(p), random.random() * p.sum()))
            text.append(symbol)
        return text

    ours = tt.generate(model, start, 100, tt.Sampling(0.0))[:, 0].tolist()
    if not ours == torch_loop(100, True) == onnx_loop(100, True):
        raise ThroughtimeError("texts of greedy loops differ: no figure is given")
    runs: dict[str, Callable[[], object]] = {
        f"nn.{kind}Cell, torch.multinomial": torch_loop,
        "ONNX Runtime, one-step session": onnx_loop,
        "tt.generate": lambda: tt.generate(model, start, steps),
    }
    case = f"{kind}, 1,000 characters, alphabet 65, H=256"
    ours_beside = "tt.generate"
    return [
        row
        for peer in runs
        if peer != ours_beside
        for row in compare(case, {p: runs[p] for p in (peer, ours_beside)}, peer, rounds)
    ]


def _one_step_session(cell: nn.Module, readout: nn.Linear, kind: str) -> Any:
    import onnxruntime

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.readout = cell, readout

        def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            after = self.cell(x, state if kind == "LSTM" else state[0])
            after = after if kind == "LSTM" else (after,)
            return self.readout(after[0]), *after

    fields = 2 if kind == "LSTM" else 1
    hidden = readout.in_features
    example = (torch.zeros(1, readout.out_features), *[torch.zeros(1, hidden)] * fields)
    file = io.BytesIO()
    names = ["x", *(f"s{i}" for i in range(fields))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Step(), example, file, dynamo=False, input_names=names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )


@benchmark("nade")
def nade(rounds: int) -> list[Row]:
    """NADE's loss and its gradients, 500 units, 784 pixels, 13 % of them on, batches of 100."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = (torch.rand(100, 784) < 0.13).float()
    weight, readout = (torch.nn.Parameter(0.05 * torch.randn(784, 500)) for _ in range(2))
    bias = torch.nn.Parameter(torch.zeros(500))

    def step(engine: str) -> tuple[Tensor, ...]:
        z = autoregression(x, bias.expand(100, 500), weight, readout, engine=engine)
        loss = F.binary_cross_entropy_with_logits(z, x, reduction="sum") / len(x)
        return (loss, *torch.autograd.grad(loss, (weight, readout, bias)))

    try:
        for found, expected in zip(step("native"), step("eager"), strict=True):
            _check(found, expected)
        runs = {engine: lambda engine=engine: step(engine) for engine in ("eager", "native")}
        return compare("NADE, training step, B=100 D=784 H=500", runs, "eager", rounds)
    finally:
        torch.set_num_threads(threads)


def _many(run: Callable[[], Any], count: int = 50) -> Callable[[], None]:
    def all_of_them() -> None:
        for _ in range(count):
            run()

    return all_of_them


def _check(found: Tensor, expected: Tensor) -> None:
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise ThroughtimeError("results differ: no figure is given")
