"""The chain of oracles: backwards through everything, in chunks, forwards, forwards by pattern."""

import itertools

import pytest
import torch
from cells.library import CELLS
from torch import Tensor, nn

import throughtime as tt
from throughtime.core.errors import ConfigurationError, LearnerRefusalError, ShapeError
from throughtime.core.state import map_state, state_tensors
from throughtime.learning import (
    BPTT,
    KFRTRL,
    RFLO,
    RTRL,
    UORO,
    Chunk,
    Learner,
    NoBackTrack,
    SnAp,
    StepwiseModel,
    TruncatedBPTT,
)
from throughtime.learning.learner import draw

TIME, BATCH, WIDTH, HIDDEN = 7, 2, 2, 4
# torch scripts its forward-mode decompositions when the first Jacobian is taken
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")


def squared(answers: Tensor, targets: Tensor) -> Tensor:
    return (answers - targets).square().sum(-1)


def model_of(cell: tt.Cell) -> StepwiseModel:
    """In float64, with parameters of which none is zero."""
    model = StepwiseModel(cell, nn.Linear(cell.output_size, 2), squared).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def chunk_of(time: int = TIME, batch: int = BATCH) -> Chunk:
    """Steps of which some start afresh, and some are not asked for."""
    resets = torch.rand(time, batch) < 0.2
    return Chunk(
        torch.randn(time, batch, WIDTH, dtype=torch.float64),
        torch.randn(time, batch, 2, dtype=torch.float64),
        resets,
        torch.rand(time, batch, dtype=torch.float64).round(decimals=1),
    )


def learnt(learner: Learner, model: StepwiseModel, chunk: Chunk, *cuts: int):
    """The loss, all gradients and the last state, over the chunk cut where it is said."""
    state = learner.init(model, chunk.inputs.shape[1], seed=3)
    gradients = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    losses = []
    for start, stop in itertools.pairwise([0, *cuts, len(chunk)]):
        loss, found, state = learner.update(model, state, chunk.part(start, stop))
        losses.append(loss)
        for name, gradient in found.items():
            gradients[name] += gradient
    return torch.stack(losses).sum(), gradients, state


def assert_alike(got, expected, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(got[0], expected[0], rtol=tolerance, atol=tolerance)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(
            got[1][name],
            gradient,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, n=name: f"{n}: {m}",
        )
    for a, b in zip(state_tensors(got[2].cell), state_tensors(expected[2].cell), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_backpropagation_is_the_gradient_of_an_unrolled_loop() -> None:
    model, chunk = model_of(tt.cells.LSTMCell(WIDTH, HIDDEN)), chunk_of()
    like = chunk.inputs
    state = fresh = model.cell.initial_state(BATCH, dtype=like.dtype, device=like.device)
    loss = torch.zeros((), dtype=torch.float64)
    for t in range(TIME):
        state = map_state(
            lambda f, s, t=t: torch.where(chunk.resets[t][:, None], f, s), fresh, state
        )
        output, state = model.cell.step(model.cell.project(chunk.inputs[t]), state)
        losses = squared(model.readout(output), chunk.targets[t])
        loss = loss + (chunk.weights[t] * losses).sum() / BATCH
    expected = dict(
        zip(
            dict(model.named_parameters()),
            torch.autograd.grad(loss, list(model.parameters())),
            strict=True,
        )
    )
    for engine in ("eager", "auto"):
        found = learnt(BPTT(engine), model, chunk)
        assert_alike(found, (loss.detach(), expected, found[2]))


@pytest.mark.parametrize("name", CELLS)
def test_real_time_learning_is_backpropagation_through_everything(name: str) -> None:
    model = model_of(CELLS[name](WIDTH, HIDDEN))
    chunk = chunk_of()
    expected = learnt(BPTT(), model, chunk)
    assert_alike(learnt(RTRL(), model, chunk), expected)
    assert_alike(learnt(RTRL(), model, chunk, 1, 5), expected)
    assert_alike(learnt(TruncatedBPTT(2, TIME), model, chunk, 4), expected)


@pytest.mark.parametrize("name", CELLS)
def test_checkpoints_change_no_gradient(name: str) -> None:
    model, chunk = model_of(CELLS[name](WIDTH, HIDDEN)), chunk_of()
    expected = learnt(BPTT("eager"), model, chunk)
    for engine in ("eager", "auto"):
        for stored in ({"checkpoint": 2}, {"checkpoint": "sqrt"}, {"memory_budget": 20_000}):
            with tt.engine_options(**stored):
                assert_alike(learnt(BPTT(engine), model, chunk), expected)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_windows_are_chunks_whose_starts_overlap(every: int) -> None:
    model, chunk = model_of(tt.cells.GRUCell(WIDTH, HIDDEN)), chunk_of(6)
    cuts = range(every, 6, every)
    assert_alike(
        learnt(TruncatedBPTT(every, every), model, chunk), learnt(BPTT(), model, chunk, *cuts)
    )
    # k1 = 2, k2 = 4: each piece of two after the two before it, from the state at their start
    found = learnt(TruncatedBPTT(2, 4), model, chunk, 2, 4)[1]
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    state = BPTT().init(model, BATCH)
    for start in (0, 2, 4):
        first = max(0, start - 2)
        window = chunk.part(first, start + 2)
        weights = window.weights.clone()
        weights[: start - first] = 0
        part = Chunk(window.inputs, window.targets, window.resets, weights)
        for name, gradient in BPTT().update(model, state, part).gradients.items():
            total[name] += gradient
        if start > 0:
            state = BPTT().update(model, state, chunk.part(first, first + 2)).state
    for name, gradient in total.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("learner", [RTRL(), UORO(), NoBackTrack(), SnAp(), TruncatedBPTT(1, 3)])
@pytest.mark.parametrize("name", ["LSTMCell", "zoneout", "ClockworkCell", "UnitaryCell"])
def test_it_does_not_matter_where_a_stream_is_cut(learner: Learner, name: str) -> None:
    """Masks and signs included; and a state that is saved goes on to the same bits."""
    model, chunk = model_of(CELLS[name](WIDTH, HIDDEN)), chunk_of()
    whole = learnt(learner, model, chunk)
    assert_alike(learnt(learner, model, chunk, 1, 2, 6), whole, 1e-12)
    state = learner.init(model, BATCH, seed=3)
    state = learner.update(model, state, chunk.part(0, 4)).state
    saved = map_state(torch.clone, state)
    rest = chunk.part(4, TIME)
    one, other = (learner.update(model, s, rest) for s in (state, saved))
    for name, gradient in one.gradients.items():
        assert torch.equal(gradient, other.gradients[name])


def of_sequences(hidden: int) -> tt.Cell:
    return tt.cells.RecurrentDropoutLSTMCell(WIDTH, hidden, rate=0.5, per="sequence")


def test_a_mask_per_sequence_lasts_through_a_chunk() -> None:
    """Each chunk and each reset begin with new masks, and no other step does."""
    model = model_of(of_sequences(64))
    start = BPTT().init(model, BATCH, seed=3)
    resets = torch.zeros(TIME, BATCH, dtype=torch.bool)
    resets[0], resets[4, 1] = True, True
    random = torch.Generator().manual_seed(0)
    (first,) = draw(model, start.cell, resets, random)
    carried = start.cell._replace(steps=torch.tensor([TIME, 3]))
    (second,) = draw(model, carried, torch.zeros_like(resets), random)
    masks = torch.cat([first, second])
    changed = (masks[1:] != masks[:-1]).any(-1)
    expected = torch.zeros(2 * TIME - 1, BATCH, dtype=torch.bool)
    expected[3, 1] = expected[TIME - 1] = True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize(
    "make",
    [
        of_sequences,
        lambda hidden: tt.wiring.ZoneoutCell(of_sequences(hidden)),
        lambda hidden: tt.wiring.StackedCell(
            [tt.cells.GRUCell(WIDTH, WIDTH), of_sequences(hidden)]
        ),
        lambda hidden: tt.wiring.DeepOutputCell(of_sequences(hidden), hidden),
    ],
)
def test_all_learners_keep_a_mask_per_sequence(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the pieces of a chunk that they take at once."""
    model, chunk = model_of(make(HIDDEN)), chunk_of()
    expected = learnt(BPTT(), model, chunk)
    monkeypatch.setattr("throughtime.learning.forward._ROWS", 2 * BATCH)
    for learner in (RTRL(), TruncatedBPTT(1, TIME), TruncatedBPTT(2, TIME)):
        assert_alike(learnt(learner, model, chunk), expected)


def test_a_pattern_that_is_full_is_exact() -> None:
    model, chunk = model_of(tt.cells.LSTMCell(WIDTH, HIDDEN)), chunk_of()
    exact = learnt(RTRL(), model, chunk)
    assert_alike(learnt(SnAp(3), model, chunk), exact)
    sparse = learnt(SnAp(1), model, chunk)[1]
    assert not torch.allclose(sparse["cell.weight_hh"], exact[1]["cell.weight_hh"])
    # what a unit's weights do to that unit alone is all there is where units are apart
    model = model_of(tt.cells.IndRNNCell(WIDTH, HIDDEN))
    assert_alike(learnt(SnAp(1), model, chunk), learnt(RTRL(), model, chunk))


def test_learning_unit_by_unit_is_backpropagation_that_is_cut_at_h() -> None:
    chunk = chunk_of()
    for make in (tt.cells.LSTMCell, tt.cells.LSTM1997Cell):
        model = model_of(make(WIDTH, HIDDEN))
        assert_alike(
            learnt(RFLO("readout"), model, chunk, 3), learnt(BPTT(cut=("h",)), model, chunk)
        )
    for name in ("IndRNNCell", "MinGRUCell"):  # no recurrent matrix: nothing is left out
        model = model_of(CELLS[name](WIDTH, HIDDEN))
        assert_alike(learnt(RFLO("readout"), model, chunk), learnt(RTRL(), model, chunk))
    # a leaky unit's trace decays by its leak alone
    model = model_of(CELLS["LeakyCell"](WIDTH, HIDDEN))
    state = RFLO("readout").init(model, BATCH)
    for t in range(4):
        step = Chunk(chunk.inputs[t : t + 1], chunk.targets[t : t + 1])
        before, state = state, RFLO("readout").update(model, state, step).state
    immediate = (
        RFLO("readout").update(model, before._replace(memory=(0 * before.memory[0],)), step).state
    )
    leak = model.cell.leak.detach().sigmoid()[:, None]
    torch.testing.assert_close(state.memory[0], leak * before.memory[0] + immediate.memory[0])
    with pytest.raises(LearnerRefusalError, match="SnAp"):
        RFLO("readout").init(model_of(CELLS["UnitaryCell"](WIDTH, HIDDEN)), BATCH)


def test_random_feedback_teaches_the_cell_by_other_weights_than_the_readout_has() -> None:
    model, chunk = model_of(tt.cells.GRUCell(WIDTH, HIDDEN)), chunk_of(1)
    found = learnt(RFLO(), model, chunk)
    exact = learnt(RFLO("readout"), model, chunk)
    readout = {n: g for n, g in exact[1].items() if n.startswith("readout")}
    assert_alike(found, (exact[0], readout, exact[2]))
    # one step: h by the cell's parameters, and errors 2 (y - target) by B
    b = (2 * torch.rand(2, HIDDEN, generator=torch.Generator().manual_seed(0)) - 1) / HIDDEN**0.5
    start = model.cell.initial_state(BATCH, dtype=torch.float64, device=torch.device("cpu"))
    h, _ = model.cell.step(model.cell.project(chunk.inputs[0]), start)
    errors = 2 * chunk.weights[0, :, None] * (model.readout(h) - chunk.targets[0])
    taken = (h * (errors.detach() @ b.double())).sum() / BATCH
    expected = torch.autograd.grad(taken, list(model.cell.parameters()))
    for (name, _), gradient in zip(model.cell.named_parameters(), expected, strict=True):
        torch.testing.assert_close(found[1][f"cell.{name}"], gradient)
    other = learnt(RFLO(seed=1), model, chunk)[1]["cell.weight_ih"]
    assert not torch.allclose(other, found[1]["cell.weight_ih"])
    assert model.readout.forward.__func__ is nn.Linear.forward, "the model is as it was"


def test_memory_does_not_grow() -> None:
    model = model_of(tt.cells.ElmanCell(WIDTH, HIDDEN))
    for learner in (RTRL(), SnAp(), UORO(), KFRTRL(), TruncatedBPTT(2, 5)):
        state = learner.init(model, BATCH)
        sizes = []
        for steps in (10, 2, 8):
            state = learner.update(model, state, chunk_of(steps)).state
            sizes.append([t.shape for t in state_tensors(state)])
            assert not any(t.requires_grad for t in state_tensors(state))
        assert sizes[0] == sizes[1] == sizes[2], learner


def test_the_model_is_left_alone_and_frozen_parameters_have_no_gradient() -> None:
    model, chunk = model_of(tt.cells.LSTMCell(WIDTH, HIDDEN)), chunk_of()
    model.cell.weight_ih.requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    expected = learnt(BPTT(), model, chunk)
    for learner in (RTRL(), UORO(), KFRTRL(), NoBackTrack(), SnAp(), TruncatedBPTT(1, 2)):
        found = learner.update(model, learner.init(model, BATCH), chunk)
        assert "cell.weight_ih" not in found.gradients
        torch.testing.assert_close(found.loss, expected[0])
        for name, parameter in model.named_parameters():
            assert parameter.grad is None
            assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("name", ["GRUCell", "IndRNNCell", "skip RNN", "UnitaryCell", "zoneout"])
def test_cells_whose_jacobian_is_no_kronecker_product_are_refused(name: str) -> None:
    model = model_of(CELLS[name](WIDTH, HIDDEN))
    with pytest.raises(LearnerRefusalError, match=r"no Kronecker product.*UORO\(\)"):
        KFRTRL().init(model, BATCH)


def test_a_cell_whose_matrix_is_masked_has_no_kronecker_factors() -> None:
    """The gradient of its weight is masked too, which a product of factors is not."""

    class Masked(tt.GatedCell):
        gates = 1

        def recurrent_matrix(self, lag):
            return super().recurrent_matrix(lag).tril()

        def pointwise(self, x, u, state):
            return torch.tanh(x[0] + u[0])

    model, chunk = model_of(Masked(WIDTH, HIDDEN)), chunk_of()
    with pytest.raises(LearnerRefusalError, match="no Kronecker product"):
        KFRTRL().init(model, BATCH)
    assert_alike(learnt(RTRL(), model, chunk), learnt(BPTT(), model, chunk))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ConfigurationError, match="every=3, window=2"):
        TruncatedBPTT(3, 2)
    with pytest.raises(ConfigurationError, match="at least 1 step"):
        SnAp(0)
    with pytest.raises(ShapeError, match="targets"):
        Chunk(torch.ones(3, 2, 1), torch.ones(2, 3, 1))
    model = StepwiseModel(tt.cells.ElmanCell(1, 2), nn.Linear(2, 1), nn.functional.mse_loss)
    with pytest.raises(ShapeError, match="reduction='none'"):
        BPTT().update(model, BPTT().init(model, 2), Chunk(torch.ones(3, 2, 1), torch.ones(3, 2, 1)))
