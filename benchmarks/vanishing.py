"""A training step whose one loss is at the end of a long sequence: its gradient vanishes."""

import torch
from torch import nn

import throughtime as tt
from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.core.errors import ThroughtimeError

SHAPES = ((32, 784, 1, 128), (64, 200, 64, 256))


@benchmark("vanishing")
def vanishing(rounds: int) -> list[Row]:
    """tt.LSTM and tt.RNN against torch.nn's, on the same weights, with all outputs and the last."""
    rows: list[Row] = []
    for name in ("LSTM", "RNN"):
        for batch, time, width, hidden in SHAPES:
            torch.manual_seed(0)
            theirs = getattr(nn, name)(width, hidden)
            ours = getattr(tt, name)(width, hidden, engine="native")
            ours.load_state_dict(theirs.state_dict())
            x = torch.randn(time, batch, width, requires_grad=True)
            for where, last in (("all outputs", False), ("the last output", True)):
                steps = {
                    "native": lambda o=ours, x=x, last=last: _step(o, x, last),
                    f"nn.{name}": lambda o=theirs, x=x, last=last: _step(o, x, last),
                    f"nn.{name}, set_flush_denormal": lambda o=theirs, x=x, last=last: _flushed(
                        o, x, last
                    ),
                }
                found = [run() for run in steps.values()]
                for got, right, other in zip(*found, strict=True):
                    most = 1e-3 * right.abs().max()
                    if not all(
                        torch.allclose(t, right, rtol=1e-3, atol=most) for t in (got, other)
                    ):
                        raise ThroughtimeError("gradients differ: no figure is given")
                case = f"{name} B={batch} T={time} I={width} H={hidden}, {where}"
                rows += compare(case, steps, f"nn.{name}", rounds)
    return rows


def _step(layer: nn.Module, x: torch.Tensor, last: bool) -> tuple[torch.Tensor, ...]:
    outputs = layer(x)[0]
    return torch.autograd.grad(
        (outputs[-1] if last else outputs).square().sum(), [x, *layer.parameters()]
    )


def _flushed(layer: nn.Module, x: torch.Tensor, last: bool) -> tuple[torch.Tensor, ...]:
    torch.set_flush_denormal(True)
    try:
        return _step(layer, x, last)
    finally:
        torch.set_flush_denormal(False)
