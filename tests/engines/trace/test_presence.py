"""A gradient that no loss sends is absent, not zero: zero times an infinite derivative is nan."""

import pytest
import torch

import throughtime as tt
from throughtime.core.state import state_tensors
from throughtime.engines import engine_options
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.trace.plan import plan
from throughtime.engines.trace.program import Key

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


def overflowing(a):
    """Infinite, with an infinite derivative, where a is above 0.9."""
    return (800 * a).exp()


class Unread(tt.GatedCell):
    """A memory that nothing reads."""

    gates = 2
    memories = ("m",)

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).tanh(), overflowing(x[1] + u[1])


class ReadLater(tt.GatedCell):
    """Memories that are read by the next step, and by one another; h reads one of them."""

    gates = 3
    memories = ("m", "n", "o")

    def pointwise(self, x, u, state):
        h = (x[0] + u[0]).tanh() + torch.where(state.m > 1, 1.0 * state.h, state.m)
        return h, x[1] + u[1], state.o * overflowing(x[2]), state.n.tanh()


class Swapped(tt.GatedCell):
    """Two memories that change places, so that a gradient reaches each at every second step."""

    gates = 2
    memories = ("m", "n")

    def pointwise(self, x, u, state):
        m = state.n + overflowing(x[1] + u[1])
        return (x[0] + u[0]).tanh(), m, state.m * 0.5


class EverySecond(tt.GatedCell):
    """Only the output before the last is read: a final loss reaches every second step."""

    gates = 1
    lags = (2,)

    def pointwise(self, x, u, state):
        return 1 / (1 + overflowing(x[0] + u[0]))


LOSSES = {
    "outputs": lambda outputs, state, states: [outputs],
    "all": lambda outputs, state, states: [outputs, *state_tensors(state)],
    "final h": lambda outputs, state, states: state_tensors(state)[:1],
    "final memory": lambda outputs, state, states: state_tensors(state)[-1:],
    "history of a memory": lambda outputs, state, states: state_tensors(states)[-1:],
}


@pytest.mark.parametrize("large", [0, 1])
@pytest.mark.parametrize("kind", [Unread, ReadLater, Swapped, EverySecond])
def test_gradients_are_those_of_eager(kind, large):
    """Every second step overflows, from the first or from the second on."""
    torch.manual_seed(0)
    layer = tt.Recurrent(kind, 3, 5, dtype=torch.float64)
    x = 0.1 * torch.randn(7, 3, 3, dtype=torch.float64)
    x[large::2] *= 100  # no gradient near the largest number: its sums depend on their order
    x.requires_grad_()
    reset = torch.rand(7, 3) < 0.2
    finite = []
    for name, loss in LOSSES.items():
        if name.startswith("history") and not layer.cells()[0].memories:
            continue
        for given in ({}, {"lengths": [7, 2, 5]}, {"reset": reset}, {"checkpoint": 3}):
            found = []
            for engine in ("eager", "native"):
                layer.engine = engine
                options = {name: value for name, value in given.items() if name != "checkpoint"}
                checkpoint = given.get("checkpoint") if engine == "native" else None
                with engine_options(checkpoint=checkpoint):
                    got = layer(x, **options, return_states=name.startswith("history"))
                terms = [t for t in loss(*got, *([None] * (3 - len(got)))) if t.requires_grad]
                leaves, ones = [x, *layer.parameters()], [torch.ones_like(t) for t in terms]
                found.append(
                    torch.autograd.grad(
                        terms, leaves, ones, allow_unused=True, materialize_grads=True
                    )
                )
            where = f"{name} and {list(given)}"
            torch.testing.assert_close(
                *found, equal_nan=True, msg=lambda message, where=where: f"{where}: {message}"
            )
            finite.append(all(bool(g.isfinite().all()) for g in found[0]))
    assert any(finite)


def test_a_cell_of_one_result_reads_no_presence():
    for cell in (tt.cells.GRUCell(2, 3), tt.cells.ElmanCell(2, 3)):
        assert all(key.kind != "present" for key in plan(cell, torch.float32).backward.inputs)
    lstm = plan(tt.cells.LSTMCell(2, 3), torch.float32)
    assert [k for k in lstm.backward.inputs if k.kind == "present"] == [Key("present", "", 1)]
    assert lstm.reach == [3, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_flip_flop_runs_natively(dtype):
    assert tt.Recurrent(tt.cells.FlipFlopCell, 2, 3, dtype=dtype).explain().engine == "native"
