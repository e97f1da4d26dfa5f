"""Checkpoints of the eager engine: the same results, and little that is kept."""

import weakref

import pytest
import torch
from cells.library import CELLS
from torch import Tensor

import throughtime as tt
from throughtime import wiring
from throughtime.core.errors import EngineRefusalError
from throughtime.engines.cpp.compiler import find_compiler


def run(layer: tt.Recurrent, x: Tensor, stored: dict, **options) -> list[Tensor]:
    """Outputs, last states, and all gradients; masks are the same whatever is stored."""
    torch.manual_seed(1)
    with tt.engine_options(**stored):
        outputs, state, states = layer(x, return_states=True, **options)
    ends = [t for t in tt.core.state.state_tensors(state) if t.is_floating_point()]
    loss = sum((t.sin().sum() for t in ends), start=outputs.square().sum())
    found = torch.autograd.grad(loss, [x, *layer.parameters()])
    return [outputs, *tt.core.state.state_tensors(state), states.h, *found]


STORED = [
    *({"checkpoint": every} for every in (1, 3, "sqrt", 100)),
    *({"memory_budget": size} for size in (2_000, 6_000, 100_000)),
]


NEEDS_COMPILER = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
ENGINES = [
    *((name, "eager") for name in ("LSTMCell", "skip RNN", "zoneout", "UnitaryCell", "graph")),
    *(
        pytest.param(name, "native", marks=NEEDS_COMPILER)
        for name in ("LSTMCell", "skip RNN", "zoneout")
    ),
]


@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_results_and_gradients_are_the_same(name: str, stored: dict, engine: str) -> None:
    torch.manual_seed(0)
    layer = tt.Recurrent(CELLS[name](3, 4), engine=engine).double()
    x = torch.randn(10, 4, 3, dtype=torch.float64, requires_grad=True)
    reset = torch.rand(10, 4) < 0.2
    for options in ({}, {"reset": reset}, {"lengths": [10, 2, 7, 3]}, {"lengths": [4, 2, 4, 3]}):
        plain = run(layer, x, {}, **options)
        for got, expected in zip(run(layer, x, stored, **options), plain, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_the_last_output_alone() -> None:
    torch.manual_seed(0)
    cell = tt.cells.GRUCell(3, 4)
    x = torch.randn(9, 4, 3)
    lengths = torch.tensor([9, 1, 5, 3])
    state = cell.initial_state(4, dtype=x.dtype, device=x.device)
    engine = tt.engines.ENGINES["eager"]
    found = []
    for every in (None, 2, 4):
        options = tt.engines.EngineOptions(every)
        request = tt.engines.Request(cell, x, state, lengths, outputs="last", options=options)
        result = engine.run(request)
        found.append([result.outputs, *torch.autograd.grad(result.outputs.sum(), cell.weight_hh)])
    for one in found[1:]:
        for got, expected in zip(one, found[0], strict=True):
            torch.testing.assert_close(got, expected)


class Counted(tt.Cell):
    """Knows how many of its outputs are still in memory, and how often it stepped."""

    def __init__(self) -> None:
        super().__init__()
        self.input_size = self.hidden_size = self.output_size = 3
        self.weight = torch.nn.Parameter(torch.eye(3) / 2)
        self.made: list[weakref.ref] = []

    def initial_state(self, batch_size, *, dtype, device):
        return tt.core.state.state_type("h")(torch.zeros(batch_size, 3, dtype=dtype, device=device))

    def project(self, x):
        return x

    def step(self, projected, state):
        inner = state.h @ self.weight
        self.made.append(weakref.ref(inner))
        h = torch.tanh(projected + inner)
        return h, type(state)(h)


def test_what_is_between_the_borders_is_not_kept_but_run_again() -> None:
    cell = Counted()
    layer = tt.Recurrent(cell, engine="eager")
    made = layer.cells()[0].made
    x = torch.randn(100, 2, 3)
    with tt.engine_options(checkpoint="sqrt"):
        outputs, _ = layer(x)
    assert len(made) == 100
    outputs.sum().backward()
    assert len(made) == 190  # of the last segment all was kept
    with torch.no_grad(), tt.engine_options(checkpoint="sqrt"):
        layer(x)
    assert len(made) == 290


def test_a_transform_with_checkpoints_is_refused_and_auto_says_why() -> None:
    layer = tt.Recurrent(wiring.DeepTransitionCell, 3, 4)
    with tt.engine_options(checkpoint=2):
        layer(torch.randn(4, 2, 3))
        with pytest.raises(EngineRefusalError, match="sees no checkpoints"):
            torch.func.vmap(lambda x: layer(x)[0])(torch.randn(5, 4, 2, 3))
