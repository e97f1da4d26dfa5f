"""Whole steps and the states of their cells: whole numbers, shared tensors, outputs apart."""

import pytest
import torch
from torch import nn

from throughtime.core.cell import Cell
from throughtime.core.state import state_tensors, state_type
from throughtime.engines import NativeEngine, Refusal, Request, run
from throughtime.engines.cpp.compiler import find_compiler

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
WHERE = {"dtype": torch.float64, "device": torch.device("cpu")}
TIME, BATCH, WIDTH = 5, 3, 4


class Counting(Cell):
    """h' = tanh(A x + B h), beside other fields: those of `start`, changed by `change`."""

    def __init__(self, start=lambda batch: (), change=lambda *fields: fields, tied=False):
        super().__init__()
        self.input_size = self.hidden_size = self.output_size = WIDTH
        self.of_input, self.of_past = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.start, self.change = start, change
        if tied:
            self.of_past.weight = self.of_input.weight
        self.double()

    def initial_state(self, batch_size, *, dtype, device):
        h = torch.zeros(batch_size, WIDTH, dtype=dtype, device=device)
        rest = self.start(batch_size)
        return state_type("h", *"abc"[: len(rest)])(h, *rest)

    def project(self, x):
        return self.of_input(x)

    def step(self, projected, state):
        h, *rest = state
        h = torch.tanh(projected + self.of_past(h))
        return h, type(state)(h, *self.change(*rest))


class Reading(Counting):
    """The next state is computed from the output, which is no part of the state."""

    def step(self, projected, state):
        y = torch.tanh(projected + state.h)
        return y, type(state)(self.of_past(y))


def request(cell, **options):
    torch.manual_seed(0)
    x = torch.randn(TIME, BATCH, WIDTH, dtype=torch.float64)
    return Request(cell, x, cell.initial_state(BATCH, **WHERE), **options)


def assert_equal_to_eager(r) -> None:
    leaves, found = list(r.cell.parameters()), []
    for engine in ("native", "eager"):
        result = run(r, engine)
        parts = [result.outputs, *state_tensors(result.state)]
        parts += [] if result.states is None else state_tensors(result.states)
        loss = torch.stack([p.square().sum() for p in parts if p.is_floating_point()]).sum()
        found.append([*parts, *torch.autograd.grad(loss, leaves)])
    torch.testing.assert_close(*found)


def whole(*numbers, dtype=torch.int64):
    return lambda batch: tuple(torch.full((batch,), n, dtype=dtype) for n in numbers)


COUNTERS = {
    "from another number than 0": Counting(whole(5), lambda n: (n + 1,)),
    "of each sequence": Counting(lambda batch: (torch.arange(batch),), lambda n: (n,)),
    "in 32 bits": Counting(whole(0, dtype=torch.int32), lambda n: (n + 1,)),
}


@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.parametrize("outputs", ["all", "states"])
def test_whole_numbers(name, outputs) -> None:
    resets = torch.zeros(TIME, BATCH, dtype=torch.bool)
    resets[2, 1] = resets[3, 2] = True
    lengths = torch.tensor([5, 3, 4])
    for options in ({}, {"resets": resets}, {"resets": resets, "lengths": lengths}):
        assert_equal_to_eager(request(COUNTERS[name], outputs=outputs, **options))


REFUSED = {
    "exchanged": (Counting(whole(3, 7), lambda a, b: (b, a)), "from others"),
    "truths": (Counting(lambda b: (torch.ones(b, dtype=torch.bool),)), "(batch) and dtype torch.b"),
    "several": (Counting(lambda b: (torch.zeros(b, 5, dtype=torch.int64),)), "(batch, 5)"),
    "as many as sequences": (Counting(lambda b: (torch.zeros(b, b).long(),)), "no whole number"),
    "without units": (Counting(lambda b: (torch.zeros(b).double(),)), "without an axis of units"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_fields_that_are_refused(name) -> None:
    cell, said = REFUSED[name]
    refusal = NativeEngine().prepare(request(cell))
    assert isinstance(refusal, Refusal)
    assert said in refusal.reason


def test_a_given_state_has_whole_numbers_where_the_cell_has_them() -> None:
    cell = COUNTERS["from another number than 0"]
    r = request(cell)
    state = type(r.state)(r.state.h, torch.zeros(BATCH, 2, dtype=torch.int64))
    refusal = NativeEngine().prepare(Request(cell, r.inputs, state))
    assert isinstance(refusal, Refusal)
    assert "a whole number for each sequence" in refusal.reason


@pytest.mark.parametrize("tied", [(True, False), (False, True)])
def test_a_tensor_of_two_names(tied) -> None:
    kind = type("Counting", (Counting,), {})  # of which no plan is known
    for shared in tied:
        assert_equal_to_eager(request(kind(tied=shared)))


def test_the_next_state_is_a_map_of_the_output() -> None:
    assert_equal_to_eager(request(Reading()))


class Rooted(Counting):
    """h' = tanh(A x + B h) and e' = e + sqrt(h' - h'), whose derivative is infinite."""

    def __init__(self, kept=1.0, of_past=True):
        super().__init__(lambda batch: (torch.zeros(batch, WIDTH).double(),))
        self.kept, self.reads = kept, of_past

    def step(self, projected, state):
        h = torch.tanh(projected + self.of_past(state.h))
        root = torch.sqrt(state.h - state.h if self.reads else h - h)
        return h, type(state)(h, self.kept * state.a + root)


@pytest.mark.parametrize("of_past", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.5])
@pytest.mark.parametrize("outputs", ["all", "last", "states"])
@pytest.mark.parametrize("lengths", [None, [5, 2, 4], [3, 1, 3]])
def test_an_infinite_derivative_without_a_gradient(kept, of_past, outputs, lengths) -> None:
    cell = Rooted(kept, of_past)
    lengths = None if lengths is None else torch.tensor(lengths)
    r = request(cell, outputs=outputs, lengths=lengths)
    leaves = [r.inputs.requires_grad_(), *(s.requires_grad_() for s in r.state), *cell.parameters()]
    parts = {
        "outputs": lambda result: result.outputs,
        "h": lambda result: result.state.h,
        "e": lambda result: result.state.a,
        "states": lambda result: None if result.states is None else result.states.a,
    }
    for part in parts.values():
        found = []
        for engine in ("native", "eager"):
            chosen = part(run(r, engine))
            if chosen is not None:
                found.append(gradients(chosen, leaves))
        if found:
            torch.testing.assert_close(*found, equal_nan=True)
    assert all(g.isfinite().all() for g in gradients(run(r, "native").outputs, leaves))


def gradients(result, leaves):
    return torch.autograd.grad(result.sum(), leaves, allow_unused=True, materialize_grads=True)


class Late(Rooted):
    """An output that reads the field whose next value has an infinite derivative."""

    def step(self, projected, state):
        y = torch.tanh(projected + state.a)
        return y, type(state)(self.of_past(state.h), state.a + torch.sqrt(state.h - state.h))


@pytest.mark.parametrize("lengths", [None, [1, 1, 1], [2, 1, 2]])
def test_no_gradient_arrives_from_steps_that_are_not_run(lengths) -> None:
    cell = Late()
    r = request(cell, lengths=None if lengths is None else torch.tensor(lengths))
    leaves = [r.inputs.requires_grad_(), *(s.requires_grad_() for s in r.state)]
    found = [gradients(run(r, engine).outputs, leaves) for engine in ("native", "eager")]
    torch.testing.assert_close(*found, equal_nan=True)
    assert found[0][0].isfinite().all()
    assert found[0][1].isfinite().all() == (lengths == [1, 1, 1])
