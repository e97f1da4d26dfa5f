"""Cells made of cells, and the flip-flop, against their equations."""

import pytest
import torch
from cells.references import linear
from torch import Tensor

import throughtime as tt
from throughtime.cells import ElmanCell, FlipFlopCell, GRUCell
from throughtime.core.state import state_type
from throughtime.testing import CellConformance
from throughtime.wiring import (
    DeepInputCell,
    DeepOutputCell,
    DeepTransitionCell,
    HierarchicalCell,
    StackedCell,
    ZoneoutCell,
)


def elman(p: dict[str, Tensor], prefix: str, x: Tensor, h: Tensor) -> Tensor:
    a = linear(x, p[f"{prefix}.weight_ih"], p[f"{prefix}.bias_ih"])
    return torch.tanh(a + linear(h, p[f"{prefix}.weight_hh"], p[f"{prefix}.bias_hh"]))


class TestDeepTransition(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return DeepTransitionCell(input_size, hidden_size, depth=2, width=4, shortcut=True)

    def reference(self, parameters, x, state):
        p, h, outputs = parameters, state.h, []
        for x_t in x:
            a = linear(x_t, p["weight_ih"], p["bias_1"]) + linear(h, p["weight_hh"], None)
            a = torch.tanh(linear(torch.tanh(a), p["weight_2"], p["bias_2"]))
            total = linear(a, p["weight_out"], p["bias_out"])
            h = torch.tanh(total + linear(h, p["weight_shortcut"], None))
            outputs.append(h)
        return torch.stack(outputs), state_type("h")(h)


class TestDeepInput(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return DeepInputCell(ElmanCell(4, hidden_size), input_size, depth=2)

    def reference(self, parameters, x, state):
        p, h, outputs = parameters, state.h, []
        for x_t in x:
            a = torch.tanh(linear(x_t, p["weight_1"], p["bias_1"]))
            h = elman(p, "cell", torch.tanh(linear(a, p["weight_2"], p["bias_2"])), h)
            outputs.append(h)
        return torch.stack(outputs), state_type("h")(h)


class TestDeepOutput(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return DeepOutputCell(ElmanCell(input_size, hidden_size), hidden_size + 1)

    def reference(self, parameters, x, state):
        p, h, outputs = parameters, state.inner.h, []
        for x_t in x:
            h = elman(p, "cell", x_t, h)
            outputs.append(torch.tanh(linear(h, p["weight_out"], p["bias_out"])))
        return torch.stack(outputs), type(state)(outputs[-1], type(state.inner)(h))


class Hierarchical(CellConformance):
    every: int | None = 2

    def make_cell(self, input_size, hidden_size):
        fast = ElmanCell(input_size + 2, hidden_size)
        return HierarchicalCell(fast, ElmanCell(hidden_size, 2), every=self.every)

    def reference(self, parameters, x, state):
        p, outputs = parameters, []
        fast, slow, steps = state.fast.h, state.slow.h, getattr(state, "steps", None)
        for x_t in x:
            h = elman(p, "fast", torch.cat([x_t, slow], 1), fast)
            if self.every is None:
                ends = x_t[:, -1:] > 0.5
            else:
                ends = ((steps + 1) % self.every == 0)[:, None]
                steps = steps + 1
            slow = torch.where(ends, elman(p, "slow", h, slow), slow)
            fast = torch.where(ends, torch.zeros_like(h), h)
            outputs.append(torch.cat([h, slow], 1))
        kinds = type(state.fast), type(state.slow)
        more = () if steps is None else (steps,)
        end = type(state)(outputs[-1], kinds[0](fast), kinds[1](slow), *more)
        return torch.stack(outputs), end


class TestUnitsOfTwoSteps(Hierarchical):
    pass


class TestUnitsThatTheDataEnd(Hierarchical):
    every = None


class TestResidualStack(CellConformance):
    def make_cell(self, input_size, hidden_size):
        cells = [ElmanCell(input_size, hidden_size), ElmanCell(hidden_size, hidden_size)]
        return StackedCell(cells, connections="residual")

    def reference(self, parameters, x, state):
        one, two = (s.h for s in state.layers)
        outputs = []
        for x_t in x:
            one = elman(parameters, "stack.0", x_t, one)
            two = elman(parameters, "stack.1", one, two)
            outputs.append(one + two)
        layers = tuple(type(s)(h) for s, h in zip(state.layers, (one, two), strict=True))
        return torch.stack(outputs), type(state)(outputs[-1], layers)


class TestSkippingStack(CellConformance):
    def make_cell(self, input_size, hidden_size):
        cells = [ElmanCell(input_size, hidden_size), ElmanCell(hidden_size + input_size, 3)]
        return StackedCell(cells, connections="skip")

    def reference(self, parameters, x, state):
        one, two = (s.h for s in state.layers)
        outputs = []
        for x_t in x:
            one = elman(parameters, "stack.0", x_t, one)
            two = elman(parameters, "stack.1", torch.cat([one, x_t], 1), two)
            outputs.append(torch.cat([one, two], 1))
        layers = tuple(type(s)(h) for s, h in zip(state.layers, (one, two), strict=True))
        return torch.stack(outputs), type(state)(outputs[-1], layers)


class Straight(torch.autograd.Function):
    """The flip-flop forwards, equation (11) and a straight passage backwards."""

    @staticmethod
    def forward(ctx, a, h):
        ctx.save_for_backward(a)
        held = torch.where(h >= 0, torch.ones_like(h), -torch.ones_like(h))
        return torch.where(a.abs() >= 1, a.sign(), held)

    @staticmethod
    def backward(ctx, gradient):
        (a,) = ctx.saved_tensors
        return gradient, gradient * (a.abs() < 1)


class TestFlipFlop(CellConformance):
    """Its gradient is none: what finite differences say of it is another thing."""

    def make_cell(self, input_size, hidden_size):
        return FlipFlopCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        p, h, outputs = parameters, state.h, []
        for x_t in x:
            a = linear(x_t, p["weight_ih"], p["bias_ih"])
            h = Straight.apply(a + linear(h, p["weight_hh"], p["bias_hh"]), h)
            outputs.append(h)
        return torch.stack(outputs), state_type("h")(h)

    def test_gradients_are_those_of_finite_differences(self):
        cell, request = self._request(3, 2, 2, 3)
        with pytest.raises(RuntimeError, match="Jacobian mismatch"):
            super().test_gradients_are_those_of_finite_differences()
        assert set(cell.step(cell.project(request.inputs[0]), request.state)[0].unique().tolist())

    def test_twice_differentiable(self):
        """The pseudo-gradient is constant in pieces, so that its own gradient is 0."""
        cell, request = self._request(3, 2, 2, 2)
        x = request.inputs.requires_grad_()
        projected = cell.project(x[0])
        h, _ = cell.step(projected, request.state)
        (first,) = torch.autograd.grad(h.sum(), x, create_graph=True)
        assert bool(first.any())


def test_the_flip_flop_latches_for_good() -> None:
    layer = tt.Recurrent(FlipFlopCell(1, 1, bias=False), engine="eager")
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1.0)
        layer.weight_hh_l0.zero_()
    x = 1.8 * torch.rand(500, 64, 1) - 0.9  # noise that cannot flip it
    x[0] = torch.randn(64, 1).sign() * 1.5
    outputs, _ = layer(x)
    assert torch.equal(outputs, x[:1].sign().expand_as(outputs))


def test_a_stack_with_streams_and_preparations_is_itself() -> None:
    """Prepared cells give what unprepared ones do, watched or not."""
    cells = [tt.cells.ClockworkCell(2, 6, periods=(1, 2)), ZoneoutCell(GRUCell(6, 4))]
    cells.append(tt.cells.UnitaryCell(4, 3))
    layer = tt.Recurrent(DeepOutputCell(StackedCell(cells), 5), engine="eager").double().eval()
    x = torch.randn(7, 2, 2, dtype=torch.float64)
    outputs, _ = layer(x)
    (cell,) = layer.cells()
    state = cell.initial_state(2, dtype=x.dtype, device=x.device)
    steps = torch.arange(7)[:, None].expand(7, 2)
    options = {"training": False, "dtype": x.dtype, "generator": torch.Generator()}
    streams = cell.draw_streams(steps, **options)
    for t in range(7):
        h, state = cell.step(cell.project(x[t]), state, tuple(s[t] for s in streams))
        torch.testing.assert_close(h, outputs[t])


@pytest.mark.parametrize("made", ["expm", "cayley", "householder"])
@pytest.mark.parametrize("kind", ["eager", "native", "auto"])
def test_orthogonal_by_parametrisation(made: str, kind: str) -> None:
    """The recurrent matrix stays orthogonal in training, on every engine; gradients reach it."""
    layer = tt.Recurrent(ElmanCell, 2, 6, engine=kind)
    if kind == "native" and isinstance(tt.engines.cpp.compiler.find_compiler(), str):
        pytest.skip("no C++ compiler")
    maps = {"expm": "matrix_exp"}
    torch.nn.utils.parametrizations.orthogonal(
        layer, "weight_hh_l0", orthogonal_map=maps.get(made, made)
    )
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    before = layer.weight_hh_l0.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(9, 4, 2))[0].square().sum().backward()
        optimizer.step()
    after = layer.weight_hh_l0
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after @ after.T, torch.eye(6), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_bad_wirings_are_refused() -> None:
    def gru(a: int, b: int) -> GRUCell:
        return GRUCell(a, b)

    wrong = [
        (lambda: StackedCell([gru(2, 3)], connections="dense"), "unknown connections"),
        (lambda: StackedCell([gru(2, 3), gru(3, 4)], connections="skip"), "and an input of 2"),
        (lambda: StackedCell([gru(2, 3), gru(3, 4)], connections="residual"), "of one width"),
        (lambda: HierarchicalCell(gru(2, 3), gru(3, 2)), "a fast input of x_t"),
        (lambda: HierarchicalCell(gru(4, 3), gru(3, 2), every=0), "at least 1 step"),
        (lambda: HierarchicalCell(ZoneoutCell(gru(4, 3)), gru(3, 2)), "cells without"),
        (lambda: DeepOutputCell(gru(2, 3), 0), "output_size: got 0"),
        (lambda: DeepOutputCell(gru(2, 3), 2, nonlinearity="tahn"), "Did you mean"),
        (lambda: DeepTransitionCell(2, 3, depth=0), "depth: got 0"),
        (lambda: DeepInputCell(gru(2, 3), 2, depth=0), "depth: got 0"),
        (lambda: DeepInputCell(gru(2, 3), 2, nonlinearity="tahn"), "Did you mean"),
    ]
    for make, words in wrong:
        with pytest.raises(tt.errors.ConfigurationError, match=words):
            make()
