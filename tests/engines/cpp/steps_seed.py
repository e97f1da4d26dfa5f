"""Whole steps of cells that are not gated, on random shapes, compared with the eager engine."""

import random

import torch

import throughtime as tt
from throughtime.cells import GRUCell, LayerNormLSTMCell, LSTMCell
from throughtime.core.state import state_tensors
from throughtime.engines import recording
from throughtime.engines.cpp.steps import operator
from throughtime.wiring import GraphCell, HierarchicalCell, architecture


def cells(size):
    """Cells of every kind of operation, of odd widths."""
    width, hidden = size(5), size(23)
    return [
        LayerNormLSTMCell(width, hidden),
        GraphCell(architecture("skip", 3), width, hidden, cell="gru"),
        HierarchicalCell(LSTMCell(width + 3, hidden), GRUCell(hidden, 3)),
    ]


def run(number: int) -> int:
    """Run each cell forward and backward in several modes; return the number of runs."""
    generator, ran = random.Random(number), 0
    torch.manual_seed(number)
    torch.set_num_threads(2)
    operator.lend = _poisoned

    def size(most):
        return generator.randint(1, most)

    for cell in cells(size):
        layer = tt.Recurrent(cell.double(), dtype=torch.float64)
        for time, batch, lengths in ((1, 1, False), (9, 5, True), (20, 1 + size(150), False)):
            x = torch.randn(time, batch, cell.input_size, dtype=torch.float64, requires_grad=True)
            given = {"reset": torch.rand(time, batch) < 0.2} if size(2) == 1 else {}
            if lengths:
                given["lengths"] = torch.randint(1, time + 1, (batch,))
            found = []
            for engine in ("native", "eager"):
                layer.engine = engine
                with recording() as names:
                    outputs, state = layer(x, **given)
                assert names == [engine], names
                loss = outputs.square().sum() + sum(s.sum() for s in state_tensors(state))
                leaves = [x, *layer.parameters()]
                found.append([outputs, *torch.autograd.grad(loss, leaves)])
            torch.testing.assert_close(*found, rtol=1e-7, atol=1e-8)
            ran += 1
    return ran


def _poisoned(shape, dtype):
    """Memory of its own, of its exact size, full of what would show if it were read."""
    tensor = torch.empty(tuple(shape), dtype=dtype)
    return tensor.fill_(torch.nan) if dtype.is_floating_point else tensor.fill_(255)
