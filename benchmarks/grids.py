"""GridLSTM beside the same network pixel by pixel, and diagonal by diagonal under autograd."""

from unittest import mock

import torch
from torch import Tensor

from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.core.errors import ThroughtimeError
from throughtime.layers import GridLSTM, grid
from throughtime.structures import LSTMStep, grid_scan


@benchmark("grids")
def grids(rounds: int) -> list[Row]:
    """Forward and backward passes of four directions with 16 units, on torch's own threads."""
    rows = _size(28, 28, 1, 32, rounds, pixels=True)
    return [*rows, *_size(244, 244, 3, 1, rounds, pixels=False)]


def _size(
    height: int, width: int, channels: int, batch: int, rounds: int, *, pixels: bool
) -> list[Row]:
    torch.manual_seed(0)
    layer = GridLSTM(channels, 16)
    x = torch.randn(height, width, batch, channels, requires_grad=True)
    above = torch.randn(height, width, batch, 64)

    def by_diagonals() -> list[Tensor]:
        with mock.patch.object(grid, "scan", grid_scan._by_diagonals):
            return _step(layer, x, above, layer(x)[0])

    runs = {
        "diagonals, autograd": by_diagonals,
        "GridLSTM": lambda: _step(layer, x, above, layer(x)[0]),
    }
    baseline = "diagonals, autograd"
    if pixels:
        baseline = "pixel by pixel, autograd"
        runs[baseline] = lambda: _step(layer, x, above, _pixel_by_pixel(layer, x))
    expected = runs["GridLSTM"]()
    for run in runs.values():
        for found, wanted in zip(run(), expected, strict=True):
            if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
                raise ThroughtimeError("results differ: no figure is given")
    case = f"forward and backward, {height}x{width}x{channels}, B={batch} H=16"
    return compare(case, runs, baseline, rounds)


def _step(layer: GridLSTM, x: Tensor, above: Tensor, output: Tensor) -> list[Tensor]:
    return [output, *torch.autograd.grad(output, [x, *layer.parameters()], above)]


def _pixel_by_pixel(layer: GridLSTM, x: Tensor) -> Tensor:
    height, width, batch, _ = x.shape
    step, zero = LSTMStep(), x.new_zeros(batch, layer.hidden_size)
    outputs = []
    for scan, (upwards, leftwards) in enumerate(grid._DIRECTIONS):
        w, left, above, bias = (
            getattr(layer, f"{name}_l0")[scan]
            for name in ("weight_ih", "weight_left", "weight_above", "bias")
        )
        gates = x @ w.t() + bias
        h, c = ({}, {})
        down, right = -1 if upwards else 1, -1 if leftwards else 1
        for row in range(height)[::down]:
            for column in range(width)[::right]:
                beside, over = (row, column - right), (row - down, column)
                read = h.get(beside, zero) @ left.t() + h.get(over, zero) @ above.t()
                sums = gates[row, column] + read
                found = step(sums, c.get(beside, zero), c.get(over, zero))
                h[row, column], c[row, column] = found
        rows = [torch.stack([h[r, k] for k in range(width)]) for r in range(height)]
        outputs.append(torch.stack(rows))
    return torch.cat(outputs, -1)
