"""What the trace alone would take for elementwise, and what a run must not be fooled by."""

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime.engines import recording
from throughtime.engines.cpp import engine as native_engine
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.trace.plan import plan
from throughtime.engines.trace.program import UntraceableError

HIDDEN = 4
needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


class Clipped(torch.autograd.Function):
    """Clips the gradient's norm over units."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient / gradient.norm(dim=-1, keepdim=True).clamp_min(1.0)


MIXING = {
    "readout": lambda c, y, h: y + (h.detach() * c.column.T).sum(-1, keepdim=True),
    "product": lambda c, y, h: y + (h.detach()[:, :, None] * c.square).sum(1),
    "mask": lambda c, y, h: y * ((h * c.unit).sum(-1, keepdim=True) > 0),
    "one unit to all": lambda c, y, h: y + (h * c.unit).detach()[:, :1],
    "mean over the batch": lambda c, y, h: y + h.detach().mean(0, keepdim=True),
    "softmax": lambda c, y, h: y.softmax(-1),
    "flip": lambda c, y, h: y.flip(-1),
    "read in Python": lambda c, y, h: y * c.three.tolist()[0],
    "gradient clipped over units": lambda c, y, h: Clipped.apply(y),
    "batch size": lambda c, y, h: y if y.shape[0] > 8 else 2 * y,
    "truncated constant": lambda c, y, h: y * torch.tensor(2.7).int(),
}


class Mixing(tt.GatedCell):
    """A cell that does one of these."""

    gates = 1

    def __init__(self, input_size, hidden_size, *, name, **options):
        super().__init__(input_size, hidden_size, **options)
        self.name = name
        self.unit = nn.Parameter(torch.randn(hidden_size))
        self.column = nn.Parameter(torch.randn(hidden_size, 1))
        self.square = nn.Parameter(torch.randn(hidden_size, hidden_size))
        self.register_buffer("three", torch.tensor([0.5, 0.2, 0.1]))

    def pointwise(self, x, u, state):
        return MIXING[self.name](self, (x[0] + u[0]).tanh(), state.h)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MIXING)
def test_what_is_not_elementwise_is_refused(name, dtype):
    with pytest.raises(UntraceableError, match="pointwise"):
        plan(Mixing(3, HIDDEN, name=name, dtype=dtype), dtype)


@needs_compiler
def test_lengths_that_are_not_contiguous():
    layer, x = tt.LSTM(3, 8, engine="native"), torch.randn(4, 3, 3)
    both = torch.tensor([[4, 0], [2, 0], [3, 0]])
    got, wanted = layer(x, lengths=both[:, 0])[1], layer(x, lengths=[4, 2, 3])[1]
    torch.testing.assert_close(got.c, wanted.c, rtol=0, atol=0)
    same = layer(x, lengths=torch.tensor(3).expand(3))[1]
    torch.testing.assert_close(same.c, layer(x, lengths=[3, 3, 3])[1].c, rtol=0, atol=0)


@needs_compiler
def test_lengths_that_are_used_again():
    layer, lengths = tt.LSTM(3, 8, engine="native"), torch.tensor([4, 2, 3])
    outputs = layer(torch.randn(4, 3, 3), lengths=lengths)[0]
    lengths.fill_(1)
    outputs.sum().backward()


class WithTau(tt.GatedCell):
    """A leak rate that is a buffer."""

    gates = 1

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.register_buffer("tau", torch.linspace(0.1, 0.9, hidden_size))

    def pointwise(self, x, u, state):
        return self.tau * state.h + (x[0] + u[0]).tanh()


def test_a_buffer_that_requires_a_gradient_gets_it():
    layer = tt.Recurrent(WithTau, 3, HIDDEN)
    raw = torch.zeros(HIDDEN, requires_grad=True)
    layer.tau_l0 = torch.sigmoid(raw)
    with recording() as names:
        layer(torch.randn(5, 2, 3))[0].sum().backward()
    assert names == ["eager"]
    assert bool(raw.grad.abs().min() > 0)


def test_methods_of_one_cell_alone():
    cell = WithTau(3, HIDDEN)
    project = cell.project
    cell.project = lambda x: 2 * project(x)
    with recording() as names:
        tt.Recurrent(cell)(torch.randn(5, 2, 3))
    assert names == ["eager"]


@needs_compiler
def test_an_attribute_that_keeps_changing(monkeypatch):
    class Annealed(tt.GatedCell):
        gates = 1
        rate = 0.0

        def pointwise(self, x, u, state):
            return self.rate * state.h + x[0] + u[0]

    monkeypatch.setattr(native_engine, "MOST_KERNELS", 2)
    used = []
    for rate in (0.1, 0.2, 0.3, 0.4, 0.5, 0.1):
        cell = Annealed(3, HIDDEN)
        cell.rate = rate
        with recording() as names:
            tt.Recurrent(cell)(torch.randn(5, 2, 3))
        used += names
    # two kernels of `pointwise`, then whole steps, whose code takes the rate as a number
    assert used == ["native"] * 6
    assert len(native_engine._compiled[Annealed]) == 2
    assert len(native_engine._compiled_wholes[Annealed]) == 1


@needs_compiler
def test_autocast_leaves_float64_alone():
    layer = tt.LSTM(3, 5, engine="native", dtype=torch.float64)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    expected = layer(x)[0]
    with torch.autocast("cpu"):
        found = layer(x)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@needs_compiler
def test_another_default_device():
    layer, x = tt.LSTM(3, 5, engine="native"), torch.randn(4, 2, 3)
    reset = torch.zeros(4, 2, dtype=torch.bool)
    hx = (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5))
    with torch.device("meta"):
        outputs, _ = layer(x, reset=reset, hx=hx, return_states=True)[:2]
    assert outputs.device.type == "cpu"


class Constant(tt.GatedCell):
    """A memory that is always one."""

    gates, memories = 1, ("one",)

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).tanh(), torch.ones_like(state.h)


@needs_compiler
def test_second_derivatives_with_a_constant_result():
    layer = tt.Recurrent(Constant, 3, 5, engine="native")
    x = torch.randn(4, 2, 3, requires_grad=True)
    outputs, state = layer(x)
    (first,) = torch.autograd.grad(outputs.pow(2).sum() + state.one.sum(), x, create_graph=True)
    first.sum().backward()
    assert x.grad is not None


@needs_compiler
def test_a_kernel_has_the_same_name_in_every_process():
    from throughtime.core.errors import ThroughtimeError
    from throughtime.engines.cpp.kernel import kernel_named

    cell = tt.LSTM(3, 5).as_cell()
    kernel = native_engine.kernel_of(cell, torch.float32)
    assert len(kernel.name) == 24
    with pytest.raises(ThroughtimeError, match="has not compiled it"):
        kernel_named("0" * 24)
