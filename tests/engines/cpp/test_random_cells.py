"""Random cells, compiled many at a time, against the eager engine."""

import pytest
import torch
from engines.trace.random_pointwise import RandomCell, recipes
from examples import examples
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import throughtime as tt
from throughtime.core.state import state_tensors
from throughtime.engines import recording
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.cpp.kernel import compile_kernels
from throughtime.engines.trace.plan import plan

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(isinstance(COMPILER, str), reason="no C++ compiler")


# nothing is shrunk: each try would be compiled
@settings(
    max_examples=examples(1),
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(
    made=st.lists(recipes(), min_size=10, max_size=10, unique=True),
    sizes=st.tuples(*(st.integers(1, most) for most in (6, 7, 4, 19))),
)
def test_random_cells(made, sizes):
    time, batch, width, hidden = sizes
    cells = [RandomCell(recipe, width, hidden, dtype=torch.float64) for recipe in made]
    plans = list(dict.fromkeys(plan(cell, torch.float64) for cell in cells))
    compile_kernels([p for p in plans if p.accumulators], torch.float64, COMPILER)
    for cell in cells:
        if plan(cell, torch.float64).accumulators:
            compare(cell, time, batch, width)


def compare(cell, time, batch, width):
    layer = tt.Recurrent(cell)
    x = torch.randn(time, batch, width, dtype=torch.float64, requires_grad=True)
    reset = torch.rand(time, batch) < 0.2
    lengths = torch.randint(1, time + 1, (batch,))
    for given_ in ({}, {"lengths": lengths, "reset": reset}):
        found = []
        for engine in ("eager", "native"):
            layer.engine = engine
            torch.manual_seed(1)
            with recording() as names:
                outputs, state = layer(x, **given_)
            assert names == [engine]
            fields = [s for s in state_tensors(state) if s.is_floating_point()]
            loss = outputs.square().sum() + sum(f.sum() for f in fields)
            gradients = torch.autograd.grad(
                loss, [x, *layer.parameters()], allow_unused=True, materialize_grads=True
            )
            found.append([outputs, *fields, *gradients])
        for got, wanted in zip(found[1], found[0], strict=True):
            size = max(1.0, float(wanted.detach().abs().nan_to_num(0, 0, 0).max()))
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9 * size, equal_nan=True)
