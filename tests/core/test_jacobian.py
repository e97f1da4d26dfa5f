"""A gated cell's elementwise partial derivatives are those that torch's transforms find."""

import pytest
import torch
from cells.library import CELLS
from learning.test_learners import (
    HIDDEN,
    WIDTH,
    assert_alike,
    chunk_of,
    learnt,
    model_of,
    squared,
)
from torch import nn

import throughtime as tt
from throughtime.core.errors import LearnerRefusalError
from throughtime.core.jacobian import Dynamics, GatedJacobian, GeneralJacobian, StepJacobian
from throughtime.core.state import state_tensors
from throughtime.engines.trace.plan import elementwise
from throughtime.learning import (
    BPTT,
    KFRTRL,
    RFLO,
    RTRL,
    UORO,
    Chunk,
    GradientPropagation,
    PseudoNewton,
    SnAp,
    StepwiseModel,
)
from throughtime.learning import forward as forward_module
from throughtime.learning.forward import separable

ROWS = 3
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")


class NormedCell(tt.GatedCell):
    """Gated by its looks; its units are not apart."""

    gates = 1

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).softmax(-1)


class DelayedCell(tt.GatedCell):
    """Reads outputs of long ago by matrices and by itself, with weights that are not trained."""

    gates, memories, lags = 2, ("c", "d"), (1, 2, 4)

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.alpha = nn.Parameter(torch.randn(hidden_size), requires_grad=False)
        self.beta = nn.Parameter(torch.randn(2, hidden_size), requires_grad=False)

    def pointwise(self, x, u, state):
        c = self.beta[0] * x[0] * u[0].sigmoid() + self.alpha * state.past[1]
        d = self.beta[1] * u[1].tanh() * state.c + state.d.sin()
        return c.tanh() * d, c, d


class ScaledCell(tt.GatedCell):
    """With a trained parameter of any shape, which it uses in any way."""

    gates = 3

    def __init__(self, scale: torch.Tensor):
        super().__init__(WIDTH, HIDDEN)
        self.weight_hh_scale = nn.Parameter(scale)

    def pointwise(self, x, u, state):
        scale = self.weight_hh_scale
        scaled = torch.stack(x) * (scale[:, None] if scale.dim() == 2 else scale)
        return (scaled + torch.stack(u)).sum(0).tanh() + 0.1 * state.h


MADE = {**CELLS, "delayed": DelayedCell}
SEPARABLE = [name for name, make in MADE.items() if separable(make(WIDTH, HIDDEN))]


def jacobians_of(cell: tt.Cell) -> tuple[StepJacobian, StepJacobian]:
    """The derivatives of a step at random states, by both ways."""
    dynamics = Dynamics(cell)
    s = torch.randn(ROWS, dynamics.size, dtype=torch.float64)
    x = torch.randn(ROWS, WIDTH, dtype=torch.float64)
    streams = ()
    if cell.streams:
        ages = torch.zeros(1, ROWS, dtype=torch.int64)
        random = torch.Generator().manual_seed(0)
        drawn = cell.draw_streams(ages, training=True, dtype=torch.float64, generator=random)
        streams = tuple(stream[0] for stream in drawn)
    state = dynamics.unflatten(s)
    return GatedJacobian(cell, state, x, streams), GeneralJacobian(cell, state, x, streams)


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
    fast, slow = jacobians_of(model.cell)
    v = torch.randn(ROWS, fast.size, dtype=torch.float64)
    by_s, by_theta = slow.both()

    def same(got: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)

    same(fast.both()[0], by_s)
    same(fast.both()[1], by_theta)
    g = torch.randn(ROWS, fast.size, fast.count, dtype=torch.float64)
    many = torch.randn(2, ROWS, fast.size, dtype=torch.float64)
    for step in (fast, slow):
        same(step.dense(), by_s)
        same(step.push(v), torch.einsum("bij,bj->bi", by_s, v))
        same(step.pull(v), torch.einsum("bi,bij->bj", v, by_s))
        same(step.pull_parameters(v), torch.einsum("bi,bip->bp", v, by_theta))
        same(step.push(many), torch.einsum("bij,kbj->kbi", by_s, many))
        same(step.pull(many), torch.einsum("kbi,bij->kbj", many, by_s))
        same(step.pull_parameters(many), torch.einsum("kbi,bip->kbp", many, by_theta))
        same(step.influence(g), by_s @ g + by_theta)
        same(step.influence(g, local=True), slow.influence(g, local=True))
        part = step.rows(slice(1, 3))
        same(part.push(v[1:]), torch.einsum("bij,bj->bi", by_s[1:], v[1:]))


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


@pytest.mark.parametrize("shape", [(), (1,), (HIDDEN,), (3, HIDDEN)])
def test_other_parameters_may_be_used_in_any_way(shape: tuple[int, ...]) -> None:
    model, chunk = model_of(ScaledCell(torch.rand(shape))), chunk_of()
    expected = learnt(BPTT("eager"), model, chunk)
    assert_alike(learnt(RTRL(), model, chunk), expected)
    learner = GradientPropagation(1.0)
    omega, _ = learner.penalty(model, learner.init(model, 2), chunk)
    model.cell.weight_hh_scale.requires_grad_(False)
    torch.testing.assert_close(learner.penalty(model, learner.init(model, 2), chunk)[0], omega)


class Square(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.square()


@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias_ih"])
def test_weights_that_are_made_of_others(name: str) -> None:
    model, chunk = model_of(tt.cells.ElmanCell(WIDTH, HIDDEN)), chunk_of()
    nn.utils.parametrize.register_parametrization(model.cell, name, Square())
    assert not separable(model.cell)
    assert_alike(learnt(RTRL(), model, chunk), learnt(BPTT("eager"), model, chunk))


@pytest.mark.parametrize("learner", [RTRL(), UORO(), SnAp(), KFRTRL(), RFLO()])
def test_what_cannot_be_learnt_forward_is_refused(learner) -> None:
    model = model_of(tt.cells.ElmanCell(WIDTH, HIDDEN))
    model.cell.requires_grad_(False)
    with pytest.raises(LearnerRefusalError, match="frozen"):
        learner.init(model, 2)
    model = model_of(tt.cells.ElmanCell(WIDTH, HIDDEN))
    model.cell.bias_hh = model.cell.bias_ih
    with pytest.raises(LearnerRefusalError, match="twice"):
        learner.init(model, 2)


def test_a_state_keeps_no_more_than_itself() -> None:
    model, chunk = model_of(DelayedCell(WIDTH, HIDDEN)), chunk_of()
    for learner in (RTRL(), UORO(), RFLO()):
        state = learner.update(model, learner.init(model, 2), chunk).state
        for tensor in state_tensors(state):
            assert tensor.untyped_storage().nbytes() <= max(tensor.nbytes, 8)


@pytest.mark.parametrize("make", [tt.cells.LSTMCell, tt.cells.GRUCell])
def test_the_penalty_is_found_in_full_precision_under_autocast(make) -> None:
    model = StepwiseModel(make(WIDTH, HIDDEN), nn.Linear(HIDDEN, 2), squared)
    chunk = Chunk(torch.randn(5, 2, WIDTH), torch.randn(5, 2, 2))
    learner = GradientPropagation(1.0)
    expected = learner.penalty(model, learner.init(model, 2), chunk)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = learner.penalty(model, learner.init(model, 2), chunk)[0]
        with pytest.raises(LearnerRefusalError, match="autocast"):
            PseudoNewton(1.0).update(model, PseudoNewton(1.0).init(model, 2), chunk)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


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


def test_where_nothing_is_asked_the_loss_is_not_either() -> None:
    def counted(answers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (answers - nn.functional.one_hot(targets)).square().sum(-1)  # not of no targets

    model = model_of(tt.cells.ElmanCell(WIDTH, HIDDEN))
    model.loss = counted
    inputs = torch.randn(1, 2, WIDTH, dtype=torch.float64)
    weights = torch.zeros(1, 2, dtype=torch.float64)
    chunk = Chunk(inputs, torch.tensor([[0, 1]]), None, weights)
    for learner in (BPTT(), RTRL()):
        loss, gradients, _ = learnt(learner, model, chunk)
        assert loss == 0
        assert all(not gradient.any() for gradient in gradients.values())
