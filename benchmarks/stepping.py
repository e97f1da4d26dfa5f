"""One step at a time, and NADE's recurrence, beside loops of torch on one thread."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import throughtime as tt
from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.core.errors import ThroughtimeError
from throughtime.engines.autoregression import autoregression

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
