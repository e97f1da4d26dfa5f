"""A gated cell's elementwise partial derivatives are those that torch's transforms find."""

import pytest
import torch
from cells.library import CELLS
from learning.test_learners import HIDDEN, WIDTH, assert_alike, chunk_of, learnt, model_of
from torch import nn

import throughtime as tt
from throughtime.core.dynamics import Dynamics
from throughtime.learning import BPTT, RFLO, RTRL, UORO, Chunk, GradientPropagation
from throughtime.learning import forward as forward_module
from throughtime.learning.forward import Step, StepMap
from throughtime.learning.partials import elementwise, partials, separable

ROWS = 3
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")


class NormedCell(tt.GatedCell):
    """Gated by its looks; its units are not apart."""

    gates = 1

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).softmax(-1)


class DelayedCell(tt.GatedCell):
    """Reads outputs of long ago by matrices and by itself, with weights of units and of gates."""

    gates, memories, lags = 2, ("c", "d"), (1, 2, 4)

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.alpha = nn.Parameter(torch.randn(hidden_size))
        self.beta = nn.Parameter(torch.randn(2, hidden_size))

    def pointwise(self, x, u, state):
        c = self.beta[0] * x[0] * u[0].sigmoid() + self.alpha * state.past[1]
        d = self.beta[1] * u[1].tanh() * state.c + state.d.sin()
        return c.tanh() * d, c, d


MADE = {**CELLS, "delayed": DelayedCell}
SEPARABLE = [name for name, make in MADE.items() if separable(make(WIDTH, HIDDEN))]


def step_of(cell: tt.Cell) -> tuple[Step, Step]:
    """A step at random states, with partial derivatives and without."""
    dynamics = Dynamics(cell)
    s = torch.randn(ROWS, dynamics.size, dtype=torch.float64)
    x = torch.randn(ROWS, WIDTH, dtype=torch.float64)
    streams = ()
    if cell.streams:
        ages = torch.zeros(1, ROWS, dtype=torch.int64)
        random = torch.Generator().manual_seed(0)
        drawn = cell.draw_streams(ages, training=True, dtype=torch.float64, generator=random)
        streams = tuple(stream[0] for stream in drawn)
    fresh, credit = torch.zeros(ROWS, dtype=torch.bool), torch.zeros_like(s)
    found = partials(cell, dynamics.unflatten(s), x, streams)
    return Step(s, x, streams, fresh, credit, (), found), Step(s, x, streams, fresh, credit)


def test_most_gated_cells_are_separable() -> None:
    assert {"ElmanCell", "LSTMCell", "GRUCell", "skip RNN", "delayed"} <= {*SEPARABLE}
    # a mask on the matrix: it is elementwise, and its weight's gradient is masked, too
    clockwork = CELLS["ClockworkCell"](WIDTH, HIDDEN)
    assert elementwise(clockwork)
    assert not separable(clockwork)
    for name in ("UnitaryCell", "stacked", "projected LSTM"):
        assert not elementwise(CELLS[name](WIDTH, HIDDEN))


@pytest.mark.parametrize("name", SEPARABLE)
def test_the_products_are_those_of_the_transforms(name: str) -> None:
    model = model_of(MADE[name](WIDTH, HIDDEN))
    step_map = StepMap(model)
    fast, slow = step_of(model.cell)
    assert fast.partials is not None
    v = torch.randn(ROWS, step_map.size, dtype=torch.float64)
    by_s, by_theta = step_map.jacobians(slow)

    def same(got: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)

    same(step_map.jacobians(fast)[0], by_s)
    same(step_map.jacobians(fast)[1], by_theta)
    g = torch.randn(ROWS, step_map.size, step_map.count, dtype=torch.float64)
    for step in (fast, slow):
        same(step_map.pushed(step, v), torch.einsum("bij,bj->bi", by_s, v))
        same(step_map.pulled(step, v), torch.einsum("bi,bip->bp", v, by_theta))
        same(step_map.influence(step, g), by_s @ g + by_theta)
        held = step_map.carried(slow) @ g + by_theta
        same(step_map.influence(step, g, local=True), held)
    same(fast.partials.back(v), torch.einsum("bi,bij->bj", v, by_s))


@pytest.mark.parametrize("name", ["LSTMCell", "MultiplicativeLSTMCell", "zoneout"])
def test_frozen_parameters_are_left_out(name: str) -> None:
    model = model_of(CELLS[name](WIDTH, HIDDEN))
    first, *_ = model.cell.parameters()
    first.requires_grad_(False)
    chunk = chunk_of()
    assert_alike(learnt(RTRL(), model, chunk), learnt(BPTT(), model, chunk), 1e-9)


def test_units_that_are_not_apart_are_found_out() -> None:
    """And learnt by the transforms, rightly."""
    model, chunk = model_of(NormedCell(WIDTH, HIDDEN)), chunk_of()
    assert not elementwise(model.cell)
    expected = learnt(BPTT(), model, chunk)
    assert_alike(learnt(RTRL(), model, chunk), expected)
    penalised = GradientPropagation(1.0)
    omega, _ = penalised.penalty(model, penalised.init(model, 2), chunk)
    assert omega > 0


@pytest.mark.parametrize("name", ["LSTMCell", "zoneout"])
@pytest.mark.parametrize("learner", [RTRL(), UORO(), RFLO("readout")])
def test_it_does_not_matter_how_many_steps_are_at_hand_at_once(
    learner, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, chunk = model_of(CELLS[name](WIDTH, HIDDEN)), chunk_of()
    whole = learnt(learner, model, chunk)
    for values in (1, 500):
        monkeypatch.setattr(forward_module, "_VALUES", values)
        assert_alike(learnt(learner, model, chunk), whole, 1e-12)


def test_a_step_that_nothing_is_asked_of_has_no_loss() -> None:
    """Not even where its answer is not finite."""
    model = model_of(tt.cells.ElmanCell(WIDTH, HIDDEN))
    chunk = chunk_of()
    targets = chunk.targets.clone()
    weights = torch.ones_like(chunk.weights)
    weights[2], targets[2] = 0, float("nan")
    odd = Chunk(chunk.inputs, targets, chunk.resets, weights)
    even = Chunk(chunk.inputs, chunk.targets, chunk.resets, weights)
    for learner in (BPTT(), RTRL()):
        assert_alike(learnt(learner, model, odd), learnt(learner, model, even))
