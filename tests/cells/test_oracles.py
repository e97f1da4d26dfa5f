"""Cells against independent implementations from the package index, outputs and gradients."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torchrecurrent
from minGRU_pytorch.minGRU import minGRU
from minGRU_pytorch.minLSTM import minLSTM
from torch import Tensor, nn

import throughtime as tt
from throughtime.cells import IndRNNCell, LSTMCell, MinGRUCell, MinLSTMCell

TIME, BATCH, WIDTH, HIDDEN = 11, 3, 4, 4  # as many units as inputs, which minGRU wants
Translate = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""From tensors as their parameters are to tensors as ours are: of weights, and of gradients."""


def drawn(module: nn.Module) -> nn.Module:
    """The module with parameters in double precision of which none is zero."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, dtype=torch.float64))
    return module


def looped(cell: nn.Module) -> Callable[[Tensor], Tensor]:
    """The outputs of a cell that is called step by step, from its own zeros."""

    def run(x: Tensor) -> Tensor:
        state, outputs = None, []
        for step in x:
            state = cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)

    return run


def assert_same(
    cell: tt.Cell,
    engine: str,
    theirs: nn.Module,
    run: Callable[[Tensor], Tensor],
    translate: Translate,
) -> None:
    """The same outputs, and the same gradients by the inputs and all parameters."""
    ours = tt.Recurrent(cell.double(), engine=engine)
    x = torch.randn(TIME, BATCH, WIDTH, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        for own, other in zip(ours.parameters(), translate([*theirs.parameters()]), strict=True):
            own.copy_(other)
    wanted, got = run(x), ours(x)[0]
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
    weights = torch.randn_like(got)
    by_x, *by_weight = torch.autograd.grad((got * weights).sum(), [x, *ours.parameters()])
    their_x, *theirs_by = torch.autograd.grad((wanted * weights).sum(), [x, *theirs.parameters()])
    torch.testing.assert_close(by_x, their_x, rtol=1e-9, atol=1e-11)
    for a, b in zip(by_weight, translate(theirs_by), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_indrnn_is_that_of_torchrecurrent(engine: str, nonlinearity: str) -> None:
    theirs = drawn(
        torchrecurrent.IndRNNCell(WIDTH, HIDDEN, nonlinearity=nonlinearity, recurrent_bias=False)
    )
    assert [name for name, _ in theirs.named_parameters()] == ["weight_ih", "vector_u", "bias_ih"]
    cell = IndRNNCell(WIDTH, HIDDEN, nonlinearity=nonlinearity)

    def translate(theirs: Sequence[Tensor]) -> list[Tensor]:
        weight, own, bias = theirs
        return [weight, bias, own]

    assert_same(cell, engine, theirs, looped(theirs), translate)


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_peepholes_are_those_of_torchrecurrent(engine: str) -> None:
    theirs = drawn(torchrecurrent.PeepholeLSTMCell(WIDTH, HIDDEN))
    names = [name for name, _ in theirs.named_parameters()]
    assert names == ["weight_ih", "weight_hh", "weight_ph", "bias_ih", "bias_hh"]

    def translate(theirs: Sequence[Tensor]) -> list[Tensor]:
        weight_ih, weight_hh, holes, bias_ih, bias_hh = theirs
        return [weight_ih, weight_hh, bias_ih, bias_hh, *holes.chunk(3)]

    cell = LSTMCell(WIDTH, HIDDEN, peepholes=True)
    assert_same(cell, engine, theirs, looped(theirs), translate)


@pytest.mark.parametrize("engine", ["eager", "auto", "scan"])
@pytest.mark.parametrize("kind", ["minGRU", "minLSTM"])
def test_minimal_cells_are_those_of_mingru_pytorch(kind: str, engine: str) -> None:
    """Theirs runs in parallel, by logarithms; its blocks of rows are in the reverse order."""
    make, their_kind = (MinGRUCell, minGRU) if kind == "minGRU" else (MinLSTMCell, minLSTM)
    theirs = drawn(their_kind(WIDTH))
    cell = make(WIDTH, HIDDEN, candidate="positive", bias=False)

    def translate(theirs: Sequence[Tensor]) -> list[Tensor]:
        return [torch.cat([*reversed(theirs[0].split(HIDDEN))])]

    assert_same(
        cell, engine, theirs, lambda x: theirs(x.transpose(0, 1)).transpose(0, 1), translate
    )
