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
                }
                found = [run() for run in steps.values()]
                for got, right in zip(*found, strict=True):
                    if not torch.allclose(got, right, rtol=1e-3, atol=1e-3 * right.abs().max()):
                        raise ThroughtimeError("gradients differ: no figure is given")
                case = f"{name} B={batch} T={time} I={width} H={hidden}, {where}"
                rows += compare(case, steps, f"nn.{name}", rounds)
    return rows


def _step(layer: nn.Module, x: torch.Tensor, last: bool) -> tuple[torch.Tensor, ...]:
    outputs = layer(x)[0]
    return torch.autograd.grad(
        (outputs[-1] if last else outputs).square().sum(), [x, *layer.parameters()]
    )
