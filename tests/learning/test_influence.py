"""An influence of which some entries are kept is a dense one with the others taken for zero."""

import pytest
import torch
from cells.library import CELLS
from hypothesis import given
from hypothesis import strategies as st
from learning.test_learners import (
    BATCH,
    HIDDEN,
    TIME,
    WIDTH,
    assert_alike,
    chunk_of,
    learnt,
    model_of,
)
from torch import Tensor, nn

import throughtime as tt
from throughtime.core.jacobian import Dynamics, GeneralJacobian, initial_influence
from throughtime.core.state import State, state_type
from throughtime.learning import BPTT, RTRL, Chunk, SnAp, StepwiseModel, load_state, state_dict
from throughtime.learning.forward import Step, forward_parameters, forward_sizes, go_forward
from throughtime.learning.influence import colours
from throughtime.learning.real_time import entering

# torch scripts its forward-mode decompositions when the first Jacobian is taken
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")
APART = ("IndRNNCell", "MinGRUCell", "MinLSTMCell")
LOCAL = ("ElmanCell", "LSTMCell", "GRUCell", "LeakyCell", "ClockworkCell", "zoneout", "skip RNN")


def mask_of(model: StepwiseModel, order: int) -> Tensor:
    """(size, count), from dense Jacobians at many points of the model as it is."""
    dynamics, rows = Dynamics(model.cell), 64
    s, x = torch.randn(rows, dynamics.size).double(), torch.randn(rows, WIDTH).double()
    streams = ()
    if model.cell.streams:
        drawn = model.cell.draw_streams(
            torch.arange(rows)[None] % 16,
            training=False,
            dtype=s.dtype,
            generator=torch.Generator().manual_seed(1),
        )
        streams = tuple(one[0] for one in drawn)
    step = GeneralJacobian(model.cell, dynamics.unflatten(s), x, streams)
    by_s, by_theta = ((jacobian != 0).any(0).double() for jacobian in step.both())
    first = by_theta + (initial_influence(model.cell, step.parameters) != 0)
    reached = first
    for _ in range(order - 1):
        reached = first + by_s @ reached
    return reached > 0


def masked(model: StepwiseModel, chunk: Chunk, mask: Tensor):
    """SnAp as its equation says, densely."""

    def visit(step: Step, memory: State):
        influence = entering(step, memory[0])
        by_s, by_theta = step.jacobian.both()
        past = torch.einsum("bs,bsp->p", step.credit, influence)
        return past, (mask * (by_s @ influence + by_theta),)

    state = RTRL().init(model, BATCH, seed=3)
    initial = initial_influence(model.cell, forward_parameters(model))
    state = state._replace(memory=(initial.repeat(BATCH, 1, 1),))
    return go_forward(model, state, chunk, visit)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", [*LOCAL, *APART, "UnitaryCell", "stacked", "projected LSTM"])
def test_the_entries_kept_are_those_of_a_dense_influence(name: str, order: int) -> None:
    model, chunk = model_of(CELLS[name](WIDTH, HIDDEN)), chunk_of()
    model.eval()
    mask = mask_of(model, order)
    found = learnt(SnAp(order), model, chunk, 3)
    assert_alike(found, masked(model, chunk, mask), 1e-10)
    influence, (rows, kept, *_) = found[2].memory
    assert len(rows) == len(kept) == influence.shape[1] == int(mask.sum(0).max())
    assert int(kept.sum()) == int(mask.sum())


@pytest.mark.parametrize("name", APART)
def test_units_that_are_apart_are_learnt_exactly_with_an_entry_a_parameter(name: str) -> None:
    model = model_of(CELLS[name](WIDTH, HIDDEN))
    count = forward_sizes(model)[1]
    state = RTRL().init(model, BATCH)
    for _ in range(3):
        assert state.memory[0].shape == (BATCH, 1, count)
        state = RTRL().update(model, state, chunk_of()).state
    chunk = chunk_of(50)
    assert_alike(learnt(RTRL(), model, chunk, 20), learnt(BPTT(), model, chunk))
    dense = RTRL().init(model_of(tt.cells.LSTMCell(WIDTH, HIDDEN)), BATCH).memory
    assert [part.shape for part in dense] == [(BATCH, 2 * HIDDEN, 16 * (WIDTH + HIDDEN + 2))]


def test_saturated_units_in_single_precision_are_no_other_entries() -> None:
    for name in APART:
        model = model_of(CELLS[name](WIDTH, 16)).float()  # minLSTM's is 0 / 0 at the last scale
        state = RTRL().init(model, BATCH)
        shapes = [t.shape for t in state.memory[1]]
        for scale in (1e-6, 1.0, 1e3):
            steps = chunk_of(20)
            chunk = Chunk(scale * steps.inputs.float(), steps.targets.float(), steps.resets)
            state = RTRL().update(model, state, chunk).state
            assert [t.shape for t in state.memory[1]] == shapes


def test_what_a_models_own_parameters_hide_is_found() -> None:
    """Units that are off, and a matrix that is the identity as yet."""
    model = model_of(tt.cells.ElmanCell(WIDTH, HIDDEN, nonlinearity="relu"))
    with torch.no_grad():
        model.cell.weight_hh.copy_(torch.eye(HIDDEN))
        model.cell.bias_ih.fill_(-100)
    state, local = RTRL().init(model, BATCH), SnAp(1).init(model, BATCH)
    assert len(state.memory) == 1
    assert SnAp(2).init(model, BATCH).memory[1][1].all()
    assert local.memory[1][1].shape[0] == 1
    assert local.memory[1][1].all()
    with torch.no_grad():
        for parameter in model.cell.parameters():
            parameter.normal_()
    chunk = chunk_of()
    expected = learnt(BPTT(), model, chunk)[1]
    found = RTRL().update(model, state, chunk).gradients
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9)


class Alarmed(tt.Cell):
    """Units apart, that read one another, through a matrix, where the first input is large."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.own = nn.Parameter(torch.rand(hidden_size))
        self.weight_ih = nn.Parameter(torch.randn(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.randn(hidden_size, hidden_size))

    def initial_state(self, batch_size, *, dtype, device):
        return state_type("h")(torch.zeros(batch_size, self.hidden_size, dtype=dtype))

    def project(self, x):
        return torch.cat([x @ self.weight_ih.T, x[..., :1]], -1)

    def step(self, projected, state):
        x, alarm = projected[..., :-1], projected[..., -1:] > 50
        h = (x + self.own * state.h).tanh()
        h = h + torch.where(alarm, (state.h @ self.weight_hh.T).tanh(), 0.0)
        return h, type(state)(h)


def test_entries_that_no_random_point_shows_are_kept_from_when_a_step_shows_them() -> None:
    model, chunk = model_of(Alarmed(WIDTH, HIDDEN)), chunk_of()
    quiet = learnt(RTRL(), model, chunk)
    assert quiet[2].memory[0].shape == (BATCH, 1, forward_sizes(model)[1])
    assert_alike(quiet, learnt(BPTT("eager"), model, chunk))
    chunk.inputs[3, 0, 0] = 100.0
    found = learnt(RTRL(), model, chunk, 2, 5)
    assert found[2].memory[0].shape == (BATCH, HIDDEN, forward_sizes(model)[1])
    assert_alike(found, learnt(BPTT("eager"), model, chunk))
    # it can still be saved, and taken up by a learner that has not seen that step
    start = RTRL().init(model, BATCH, seed=3)
    early = RTRL().update(model, start, chunk.part(0, 4)).state
    again = load_state(start, state_dict(early))
    rest = chunk.part(4, TIME)
    for name, gradient in RTRL().update(model, early, rest).gradients.items():
        assert torch.equal(gradient, RTRL().update(model, again, rest).gradients[name])
    assert len(chunk) == TIME


@given(st.integers(1, 12), st.integers(1, 20), st.floats(0, 1), st.integers(0, 2**32))
def test_no_two_rows_of_a_colour_share_a_column(
    rows: int, columns: int, density: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    pattern = torch.rand(rows, columns, generator=generator) < density
    found = colours(pattern)
    assert found.shape == (rows,)
    used = sorted(set(found.tolist()))
    assert used == list(range(len(used)))
    for colour in used:
        assert int(pattern[found == colour].sum(0).max()) <= 1
    widest = int(pattern.sum(0).max())
    assert len(used) >= widest  # rows of one column all differ


def test_colours_of_gated_cells_are_their_states() -> None:
    """One product for h, and one for each memory, whatever the number of units."""
    for cell, count in ((tt.cells.ElmanCell(2, 9), 1), (tt.cells.LSTMCell(2, 9), 2)):
        pattern = SnAp().init(model_of(cell), 1).memory[1]
        by_parameter = pattern[5]
        assert int(by_parameter.max()) + 1 == count
        assert len(by_parameter) == 9 * count
