"""Streams without end: constant memory, taking a stream up again, and divergence."""

import gc
import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from throughtime.cells import ElmanCell, LSTMCell
from throughtime.core.errors import ConfigurationError, LearnerRefusalError, StateError
from throughtime.core.state import state_tensors
from throughtime.learning import (
    BPTT,
    KFRTRL,
    RTRL,
    UORO,
    Chunk,
    Learner,
    NoBackTrack,
    SnAp,
    StepwiseModel,
    TruncatedBPTT,
)
from throughtime.learning.learner import learn, load_state, state_dict
from throughtime.learning.nesterov import Nesterov

# torch scripts its forward-mode decompositions when the first Jacobian is taken
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")

LEARNERS: dict[str, Learner] = {
    "BPTT": BPTT(),
    "TruncatedBPTT": TruncatedBPTT(2, 7),
    "RTRL": RTRL(),
    "SnAp": SnAp(),
    "KFRTRL": KFRTRL(),
    "UORO": UORO(),
    "NoBackTrack": NoBackTrack(),
}


def squared(answers: Tensor, targets: Tensor) -> Tensor:
    return (answers - targets).square().sum(-1)


def model_of(hidden: int = 3) -> StepwiseModel:
    torch.manual_seed(0)
    return StepwiseModel(LSTMCell(1, hidden), nn.Linear(hidden, 1), squared)


def stream(seed: int = 0, length: int = 2) -> Iterator[Chunk]:
    """The input of three steps ago, for ever."""
    random = torch.Generator().manual_seed(seed)
    past = torch.zeros(3, 2, 1)
    while True:
        inputs = torch.randn(length, 2, 1, generator=random)
        every = torch.cat([past, inputs])
        yield Chunk(inputs, every[:length])
        past = every[-3:]


def alive() -> dict[int, Tensor]:
    """Return all tensors of this process by their id."""
    gc.collect()
    return {id(o): o for o in gc.get_objects() if issubclass(type(o), Tensor)}


@pytest.mark.parametrize(("name", "length"), [("UORO", 20), ("TruncatedBPTT", 2), ("SnAp", 20)])
def test_memory_is_constant(name: str, length: int):
    """Over a hundred lessons: 2,000 steps, or 200 where a window is wider than a lesson."""
    model = model_of()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sizes = {}
    # tensors of other tests: none is freed meanwhile, and some have no number of bytes (symbols)
    others = alive()
    for lesson in itertools.islice(learn(model, LEARNERS[name], optimizer, stream(0, length)), 100):
        if lesson.number in (20, 99):
            sizes[lesson.number] = (
                sum(t.nbytes for key, t in alive().items() if key not in others),
                sum(t.nbytes for t in state_tensors(lesson.state)),
            )
    assert sizes[20] == sizes[99]


@pytest.mark.parametrize("name", LEARNERS)
def test_a_stream_is_taken_up_again_to_the_same_bits(name: str, tmp_path):
    import safetensors.torch

    learner = LEARNERS[name]

    def run(model: StepwiseModel, chunks, state=None):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        return list(learn(model, learner, optimizer, chunks, state, seed=5))

    whole = model_of()
    run(whole, itertools.islice(stream(), 7))
    first = model_of()
    lesson = run(first, itertools.islice(stream(), 3))[-1]
    safetensors.torch.save_file(state_dict(lesson.state), tmp_path / "state.safetensors")
    again = model_of()
    again.load_state_dict(first.state_dict())
    kept = safetensors.torch.load_file(tmp_path / "state.safetensors")
    state = load_state(learner.init(again, 2), kept)
    run(again, itertools.islice(stream(), 3, 7), state)
    for ours, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_learns():
    model = model_of(8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = [
        lesson.loss
        for lesson in itertools.islice(learn(model, RTRL(), optimizer, stream(length=4)), 250)
    ]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


def test_divergence_is_a_result():
    model = model_of()
    chunks = [next(stream()) for _ in range(5)]
    chunks[3] = Chunk(torch.full((2, 2, 1), torch.nan), torch.zeros(2, 2, 1))
    lessons = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for lesson in learn(model, RTRL(), optimizer, chunks):
        lessons.append(lesson)
    assert [lesson.diverged for lesson in lessons] == [False, False, False, True]
    assert all(
        bool(t.isfinite().all())
        for t in state_tensors(lessons[-1].state)
        if t.dtype.is_floating_point
    )
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_clipping_bounds_the_update():
    model = model_of()
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    (lesson,) = learn(model, BPTT(), optimizer, [next(stream())], clip_norm=1e-3)
    assert lesson.norm > 1e-3
    moved = nn.utils.parameters_to_vector(model.parameters()).detach() - before
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_refusals():
    model = model_of()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ConfigurationError, match="clip_norm"):
        next(learn(model, BPTT(), optimizer, stream(), clip_norm=0.0))
    with pytest.raises(StateError, match="memory"):
        load_state(UORO().init(model, 2), state_dict(BPTT().init(model, 2)))
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(LearnerRefusalError, match="autocast"),
    ):
        next(learn(model, UORO(), optimizer, stream()))


def test_what_wraps_a_model_is_refused(unchecked):
    wrapped = nn.DataParallel(model_of())
    with pytest.raises(LearnerRefusalError, match="data-parallel"):
        UORO().init(wrapped, 2)


def test_sparsity_is_the_size_of_all_outputs():
    model = model_of()
    sparse = StepwiseModel(model.cell, model.readout, squared, sparsity=0.3)
    outputs, targets = torch.randn(5, 2, 3), torch.randn(5, 2, 1)
    weights = torch.zeros(5, 2)
    torch.testing.assert_close(
        sparse.losses(outputs, targets, weights), 0.3 * outputs.abs().sum(-1)
    )
    torch.testing.assert_close(
        sparse.losses(outputs, targets),
        model.losses(outputs, targets) + 0.3 * outputs.abs().sum(-1),
    )
    with pytest.raises(ConfigurationError, match="sparsity"):
        StepwiseModel(ElmanCell(1, 2), model.readout, squared, sparsity=-1.0)


@pytest.mark.parametrize("period", [0, 3])
def test_nesterov_is_the_gradient_at_the_point_looked_ahead_to(period: int):
    """Against its two sequences: phi_t, and theta_t = phi_t + mu_t v_t, at which g is taken."""
    torch.manual_seed(3)
    matrix = torch.randn(4, 4, dtype=torch.float64)
    matrix = matrix @ matrix.T / 8

    def momentum(t: int) -> float:
        return 0.9 if not period else min(0.9, 1 - 0.5 / (t // period + 1))

    phi, v = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    weight = nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = Nesterov([weight], lr=0.05, momentum=0.9, period=period)
    for t in range(12):
        rate = 0.05 / (1 + t)
        ahead = phi + momentum(t) * v
        torch.testing.assert_close(weight.detach(), ahead)
        v = momentum(t) * v - rate * (matrix @ ahead)
        phi = phi + v
        optimizer.zero_grad()
        (0.5 * weight @ matrix @ weight).backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()


def test_a_constant_nesterov_is_torchs():
    ours, theirs = (nn.Parameter(torch.ones(3)) for _ in "ab")
    mine = Nesterov([ours], lr=0.1, momentum=0.8)
    torchs = torch.optim.SGD([theirs], lr=0.1, momentum=0.8, nesterov=True)
    for _ in range(10):
        for weight, optimizer in ((ours, mine), (theirs, torchs)):
            optimizer.zero_grad()
            (weight - torch.tensor([1.0, 2.0, 3.0])).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"momentum": 1.0}, {"period": -1}])
def test_nesterov_out_of_range(wrong: dict):
    with pytest.raises(ConfigurationError, match="Nesterov"):
        Nesterov([nn.Parameter(torch.ones(1))], **wrong)
