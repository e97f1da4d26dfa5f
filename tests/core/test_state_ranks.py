"""States of any rank, and with whole numbers, through layers, learners and instruments."""

import pytest
import torch
import torch.nn.functional as F
from learning.test_learners import assert_alike, learnt, squared
from torch import Tensor, nn

import throughtime as tt
from throughtime import instruments
from throughtime.core.errors import ConfigurationError, LearnerRefusalError
from throughtime.core.jacobian import Dynamics, GeneralJacobian
from throughtime.core.state import Layout, map_state, state_tensors, state_type
from throughtime.instruments.products import linearise
from throughtime.learning import (
    BPTT,
    KFRTRL,
    RFLO,
    RTRL,
    UORO,
    Chunk,
    DiscreteErrorPropagation,
    GradientPropagation,
    NoBackTrack,
    PseudoNewton,
    SnAp,
    StepwiseModel,
    TargetPropagation,
    TruncatedBPTT,
    load_state,
    state_dict,
)
from throughtime.testing import naive_run

# torch scripts its forward-mode decompositions when the first Jacobian is taken
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")
TIME, BATCH, WIDTH, UNITS = 6, 3, 2, 3
DOUBLE = {"dtype": torch.float64, "device": torch.device("cpu")}


class PlainCell(tt.Cell):
    """A linear map of the input and one of h; a subclass does the rest."""

    def __init__(self, input_size: int, hidden_size: int, *, device=None, dtype=None):
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        shapes = {"weight_ih": (hidden_size, input_size), "weight_hh": (hidden_size, hidden_size)}
        for name, shape in shapes.items():
            values = torch.empty(shape, device=device, dtype=dtype).uniform_(-0.6, 0.6)
            setattr(self, name, nn.Parameter(values))

    def project(self, x):
        return F.linear(x, self.weight_ih)


class FastWeightsCell(PlainCell):
    """An outer-product memory: A' = 0.9 A + 0.5 h h', h' = tanh(W x + U h + A' h)."""

    def initial_state(self, batch_size, *, dtype, device):
        n = self.hidden_size
        fields = [torch.zeros(batch_size, *s, dtype=dtype, device=device) for s in ((n,), (n, n))]
        return state_type("h", "A")(*fields)

    def step(self, projected, state):
        memory = 0.9 * state.A + 0.5 * state.h[:, :, None] * state.h[:, None, :]
        read = (memory @ state.h[:, :, None])[..., 0]
        h = (projected + F.linear(state.h, self.weight_hh) + read).tanh()
        return h, type(state)(h, memory)


class OddRanksCell(PlainCell):
    """A number for each sequence, and a field of three axes."""

    def initial_state(self, batch_size, *, dtype, device):
        shapes = ((self.hidden_size,), (), (2, self.hidden_size, 3))
        fields = [torch.zeros(batch_size, *s, dtype=dtype, device=device) for s in shapes]
        return state_type("h", "level", "T")(*fields)

    def step(self, projected, state):
        level = 0.7 * state.level + state.h.mean(-1)
        planes = 0.8 * state.T + (state.h * level[:, None])[:, None, :, None].sin()
        read = planes.mean((1, 3))
        h = (projected + F.linear(state.h, self.weight_hh) + read + level[:, None]).tanh()
        return h, type(state)(h, level, planes)


class RingCell(PlainCell):
    """A ring of the last three outputs, and its index, a whole number."""

    def initial_state(self, batch_size, *, dtype, device):
        h = torch.zeros(batch_size, self.hidden_size, dtype=dtype, device=device)
        at = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state_type("h", "ring", "at")(h, h[:, None].repeat(1, 3, 1), at)

    def step(self, projected, state):
        here = (torch.arange(3) == state.at[:, None])[..., None].to(state.ring)
        oldest = (here * state.ring).sum(1)
        h = (projected + F.linear(oldest + 0.5 * state.h, self.weight_hh)).tanh()
        ring = (1 - here) * state.ring + here * h[:, None]
        return h, type(state)(h, ring, (state.at + 1) % 3)


CELLS = {"matrix": FastWeightsCell, "odd ranks": OddRanksCell, "ring": RingCell}
CONTINUOUS = ["matrix", "odd ranks"]
each_cell = pytest.mark.parametrize("name", CELLS)


def model_of(name: str) -> StepwiseModel:
    torch.manual_seed(0)
    cell = CELLS[name](WIDTH, UNITS)
    return StepwiseModel(cell, nn.Linear(UNITS, 2), squared).double()


def chunk_of(time: int = TIME) -> Chunk:
    torch.manual_seed(1)
    resets = torch.zeros(time, BATCH, dtype=torch.bool)
    resets[time // 2, 1] = True
    x, y = torch.randn(time, BATCH, WIDTH).double(), torch.randn(time, BATCH, 2).double()
    return Chunk(x, y, resets)


def recorded(name: str, time: int = 12):
    torch.manual_seed(2)
    layer = tt.Recurrent(CELLS[name], WIDTH, UNITS, dtype=torch.float64)
    x = torch.randn(time, BATCH, WIDTH, dtype=torch.float64)
    return layer, x, instruments.record(layer, lambda: layer(x)[0].sum())


@each_cell
def test_a_layer_is_a_plain_loop(name: str) -> None:
    layer, x, recording = recorded(name)
    lengths = torch.tensor([12, 5, 9])
    output, state, states = layer(x, lengths=lengths, return_states=True)
    cell = recording.cell
    request = tt.engines.Request(
        cell, x, cell.initial_state(BATCH, **DOUBLE), lengths, None, (), "states"
    )
    expected = naive_run(request)
    torch.testing.assert_close(output, expected[0])
    for got, want in zip(state_tensors(state), state_tensors(expected[1]), strict=True):
        torch.testing.assert_close(got[0], want)
    assert states.h.shape == (12, 1, BATCH, UNITS)
    _, onward = layer(x, state)
    assert [s.shape for s in state_tensors(onward)] == [s.shape for s in state_tensors(state)]


@each_cell
def test_a_state_is_its_vector_and_its_whole_numbers(name: str) -> None:
    _, _, recording = recorded(name)
    layout = Layout(recording.initial)
    flat = layout.flatten(recording.states)
    assert flat.shape == (12, BATCH, layout.size)
    again = layout.unflatten(flat, layout.whole(recording.states))
    for got, want in zip(state_tensors(again), state_tensors(recording.states), strict=True):
        assert torch.equal(got, want)


def test_complex_fields_are_refused() -> None:
    state = state_type("h", "z")(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.complex64))
    with pytest.raises(ConfigurationError, match="two fields"):
        Layout(state)


@each_cell
def test_the_derivatives_of_a_step_are_those_of_the_flattened_step(name: str) -> None:
    model, rows = model_of(name), 2
    cell, dynamics = model.cell, Dynamics(model.cell)
    s = torch.randn(rows, dynamics.size, dtype=torch.float64)
    x = torch.randn(rows, WIDTH, dtype=torch.float64)
    whole = dynamics.layout.whole(cell.initial_state(rows, **DOUBLE))
    whole = tuple(w + torch.arange(1, rows + 1) for w in whole)
    state = dynamics.unflatten(s, whole)
    step = GeneralJacobian(cell, state, x)
    by_s, by_theta = step.both()
    for row in range(rows):
        own = tuple(w[row : row + 1] for w in whole)

        def flattened(v, row=row, own=own):
            return dynamics(v[None], x[row : row + 1], (), own)[0]

        torch.testing.assert_close(by_s[row], torch.func.jacrev(flattened)(s[row]))
        for j in range(dynamics.size):
            aside = 1e-6 * torch.eye(dynamics.size, dtype=torch.float64)[j]
            slope = (flattened(s[row] + aside) - flattened(s[row] - aside)) / 2e-6
            torch.testing.assert_close(by_s[row, :, j], slope, rtol=1e-6, atol=1e-8)
    v = torch.randn(2, rows, dynamics.size, dtype=torch.float64)
    torch.testing.assert_close(step.dense(), by_s)
    torch.testing.assert_close(step.push(v), torch.einsum("bij,kbj->kbi", by_s, v))
    torch.testing.assert_close(step.pull(v), torch.einsum("kbi,bij->kbj", v, by_s))
    pulled = torch.einsum("kbi,bip->kbp", v, by_theta)
    torch.testing.assert_close(step.pull_parameters(v), pulled)


@each_cell
@pytest.mark.parametrize(
    "learner",
    [BPTT("eager"), TruncatedBPTT(1, TIME), RTRL(), SnAp(9)],
    ids=lambda x: type(x).__name__,
)
def test_learners_find_the_gradient_of_backpropagation(learner, name: str) -> None:
    model, chunk = model_of(name), chunk_of()
    expected = learnt(BPTT(), model, chunk)
    assert_alike(learnt(learner, model, chunk), expected)
    state = learner.init(model, BATCH)
    again = load_state(state, state_dict(state))
    for got, want in zip(state_tensors(again), state_tensors(state), strict=True):
        assert torch.equal(got, want)
    if not isinstance(learner, BPTT):
        assert_alike(learnt(learner, model, chunk, 2, 3), expected)


@each_cell
@pytest.mark.parametrize("learner", [UORO(), NoBackTrack()], ids=lambda x: type(x).__name__)
def test_random_estimates_have_the_gradient_as_their_mean(learner, name: str) -> None:
    model, one, many = model_of(name), chunk_of(3), 4000
    one = Chunk(one.inputs[:, :1], one.targets[:, :1])
    exact = BPTT().update(model, BPTT().init(model, 1), one).gradients
    wide = Chunk(one.inputs.expand(-1, many, -1), one.targets.expand(-1, many, -1))
    found = learner.update(model, learner.init(model, many), wide).gradients
    for key in ("cell.weight_ih", "cell.weight_hh"):
        error = (found[key] - exact[key]).norm() / exact[key].norm()
        assert error < 0.2  # of 4000 draws, whose spread is of the order of the gradient


@each_cell
def test_the_penalty_on_gradients_and_the_curvature(name: str) -> None:
    model, chunk = model_of(name), chunk_of(4)
    learner = GradientPropagation(1.0)
    omega, gradients = learner.penalty(model, learner.init(model, BATCH), chunk)
    weight = model.cell.weight_hh
    assert omega > 0
    assert gradients["cell.weight_hh"].shape == weight.shape
    newton = PseudoNewton(mu=0.5)
    found = newton.instances(model, newton.init(model, BATCH), chunk)
    expected = BPTT().update(model, BPTT().init(model, BATCH), chunk)
    torch.testing.assert_close(
        found.slope["cell.weight_hh"].sum(0), expected.gradients["cell.weight_hh"]
    )


@each_cell
@pytest.mark.parametrize(
    "learner",
    [KFRTRL(), RFLO(), TargetPropagation(), DiscreteErrorPropagation()],
    ids=lambda x: type(x).__name__,
)
def test_other_learners_refuse_in_words(learner, name: str) -> None:
    with pytest.raises(LearnerRefusalError, match=CELLS[name].__name__):
        learner.init(model_of(name), BATCH)


@each_cell
def test_the_cut_of_a_field_of_any_rank(name: str) -> None:
    model, chunk = model_of(name), chunk_of()
    every = BPTT(cut=model.cell.initial_state(1, **DOUBLE)._fields)
    cut, whole = learnt(every, model, chunk), learnt(BPTT(), model, chunk)
    torch.testing.assert_close(cut[0], whole[0])
    assert not torch.allclose(cut[1]["cell.weight_hh"], whole[1]["cell.weight_hh"])


def products_of(recording, sequence: int = 0) -> Tensor:
    """J_T ... J_1 from the flattened step."""
    dynamics = Dynamics(recording.cell)
    product = torch.eye(dynamics.size, dtype=torch.float64)
    for t in range(recording.time):
        before = map_state(lambda s: s[sequence : sequence + 1], recording.before(t))
        s, whole = dynamics.flatten(before), dynamics.layout.whole(before)
        x = recording.inputs[t, sequence : sequence + 1]
        product = dynamics.jacobian(s, x, (), whole)[0] @ product
    return product


@each_cell
def test_jacobians_and_lyapunov_exponents(name: str) -> None:
    _, _, recording = recorded(name)
    found = instruments.jacobians(recording)
    expected = torch.linalg.svdvals(products_of(recording))
    largest = found.log_products[-1].exp()[:3]
    torch.testing.assert_close(largest, expected[:3], rtol=1e-6, atol=1e-12)
    assert linearise(recording, 1).size == found.size
    spectrum = instruments.lyapunov_spectrum(recording, burn_in=0)
    total = torch.linalg.slogdet(products_of(recording))[1] / recording.time
    if name in CONTINUOUS and total > -30:
        torch.testing.assert_close(spectrum.exponents.sum(), total, rtol=1e-6, atol=1e-6)


@each_cell
def test_gates_decoding_and_forward_memory(name: str) -> None:
    _, _, recording = recorded(name)
    activity = instruments.gate_activity(recording)
    layout = Layout(recording.initial)
    widths = {field: part.stop - part.start for field, part in layout.fields.items()}
    assert {field: len(carry) for field, carry in activity.carry.items()} == widths
    survival = instruments.perturbation_survival(recording, starts=[0], directions=3)
    dynamics = Dynamics(recording.cell)
    assert survival.median[0] == 1
    assert survival.median.isfinite().all()
    assert dynamics.size == layout.size
    layer, _, _ = recorded(name)
    x = torch.randn(20, 10, WIDTH, dtype=torch.float64)
    wide = instruments.record(layer, lambda: layer(x)[0].sum())
    decoding = instruments.memory_decoding(wide, lags=[0, 1], folds=3, permutations=1)
    assert decoding.size == layout.size
    assert decoding.r2.isfinite().all()
    assert decoding.r2[0].max() > 0.2


@each_cell
def test_forward_memory_follows_the_derivative(name: str) -> None:
    """A small change of a state is what the product of Jacobians makes of it."""
    _, _, recording = recorded(name, 6)
    survival = instruments.perturbation_survival(
        recording, starts=[0], directions=400, sequences=1, size=1e-6
    )
    dynamics = Dynamics(recording.cell)
    means = []
    for sequence in range(BATCH):
        product = torch.eye(dynamics.size, dtype=torch.float64)
        for t in range(1, recording.time):
            before = map_state(lambda s, b=sequence: s[b : b + 1], recording.before(t))
            s, whole = dynamics.flatten(before), dynamics.layout.whole(before)
            x = recording.inputs[t, sequence : sequence + 1]
            product = dynamics.jacobian(s, x, (), whole)[0] @ product
        means.append(float(product.norm() / dynamics.size**0.5))
    chosen = min(means, key=lambda mean: abs(mean - float(survival.geometric_mean[-1])))
    assert 0.2 < float(survival.geometric_mean[-1]) / chosen < 2


@each_cell
def test_fixed_points_or_words(name: str) -> None:
    _, _, recording = recorded(name)
    if name not in CONTINUOUS:
        with pytest.raises(ConfigurationError, match="whole numbers"):
            instruments.fixed_points(recording.cell, starts=5)
        return
    points = instruments.recorded_fixed_points(recording, starts=8, inputs="zero")
    assert points.states.shape[1] == Layout(recording.initial).size
    for state in points.states[points.fixed]:
        dynamics = Dynamics(recording.cell)
        moved = dynamics(state[None], torch.zeros(1, WIDTH, dtype=torch.float64))
        torch.testing.assert_close(moved[0], state, rtol=0, atol=1e-8)
    assert len(points.attractors) >= 1
    plane = instruments.principal_plane(
        recording.states.h[:, 0] @ torch.eye(UNITS, points.states.shape[1], dtype=torch.float64)
    )
    found = instruments.basins(recording.cell, points, plane, resolution=(4, 4), steps=200)
    assert found.attractor.shape == (4, 4)


@each_cell
def test_the_carry_is_the_diagonal_of_the_jacobian(name: str) -> None:
    _, _, recording = recorded(name, 4)
    activity = instruments.gate_activity(recording, samples=1000)
    diagonals = [
        linearise(recording, sequence).dense(slice(0, 4)).diagonal(dim1=1, dim2=2)
        for sequence in range(BATCH)
    ]
    expected = torch.cat(diagonals).mean(0)
    torch.testing.assert_close(torch.cat(list(activity.carry.values())), expected)


@each_cell
def test_instruments_of_whole_models(name: str) -> None:
    layer, x, _ = recorded(name)

    def loss() -> Tensor:
        return layer(x)[0][-1].square().mean()

    flow = instruments.gradient_flow(layer, loss)
    assert flow.norm.shape == (12,)
    assert flow.norm[-1] > 0
    influence = instruments.input_influence(layer, loss, lags=[0, 2], repeats=2)
    assert influence.lags.tolist() == [0, 2]
    curve = instruments.loss_along(layer, loss, distances=torch.tensor([-0.1, 0.0, 0.1]))
    torch.testing.assert_close(curve.slope[1], curve.gradient_norm[1])
    norms = instruments.gradient_norms(layer, [loss, loss])
    torch.testing.assert_close(norms.norm[0], curve.gradient_norm[1])
    lengths = instruments.length_extrapolation(
        layer,
        lambda length: layer(torch.randn(length, 2, WIDTH, dtype=torch.float64))[0].mean(),
        [4, 8],
        repeats=3,
        trained=4,
    )
    assert lengths.losses.shape == (2, 3)
