"""The plan of a cell computes its step and gradient, shares what cells share, and saves little."""

import copy
import functools
import gc
import math
import threading
import weakref

import pytest
import torch
from cells.samples import LookingBack, MinimalGRU, MultiplicativeIntegration, StreamedCell
from engines.trace.plan_checks import assert_plan_is_right, named, random_step
from engines.trace.random_pointwise import RandomCell, recipes
from examples import examples
from hypothesis import given, settings

import throughtime as tt
from throughtime.cells import CoupledLSTMCell, ElmanCell, GRUCell, LSTM1997Cell, LSTMCell
from throughtime.core.cell import bind
from throughtime.engines.trace import plan as plans
from throughtime.engines.trace.fingerprint import fingerprint
from throughtime.engines.trace.plan import plan
from throughtime.engines.trace.program import Key, UntraceableError, evaluate
from throughtime.engines.trace.step_plan import Accumulator
from throughtime.engines.trace.tracing import trace

CELLS = {
    "rnn": lambda: ElmanCell(3, 5),
    "relu": lambda: ElmanCell(3, 5, nonlinearity="relu"),
    "identity": lambda: ElmanCell(3, 5, nonlinearity="identity"),
    "skip": lambda: ElmanCell(3, 5, lags=(1, 4)),
    "gru": lambda: GRUCell(3, 5),
    "lstm": lambda: LSTMCell(3, 5),
    "peephole lstm": lambda: LSTMCell(3, 5, peepholes=True),
    "coupled lstm": lambda: CoupledLSTMCell(3, 5),
    "coupled peephole lstm": lambda: CoupledLSTMCell(3, 5, peepholes=True),
    "lstm of 1997": lambda: LSTM1997Cell(3, 5),
    "streams": lambda: StreamedCell(3, 5),
    "minimal gru": lambda: MinimalGRU(3, 5),
    "multiplicative": lambda: MultiplicativeIntegration(3, 5),
    "looking back": lambda: LookingBack(3, 5),
}


@pytest.mark.parametrize("name", CELLS)
def test_step_and_gradient(name) -> None:
    cell = CELLS[name]().double()
    found = plan(cell, torch.float64)
    assert_plan_is_right(found, random_step(cell), rtol=1e-12)
    assert found.derived


BOTH = functools.partial(Accumulator, of_input=True, of_past=True)
OF_INPUT = functools.partial(Accumulator, of_input=True, of_past=False)
OF_PAST = functools.partial(Accumulator, of_input=False, of_past=True)


@pytest.mark.parametrize(
    ("name", "accumulators", "saved"),
    [
        ("rnn", [BOTH(0)], 0),
        ("relu", [BOTH(0)], 0),
        ("identity", [BOTH(0)], 0),
        ("skip", [BOTH(0)], 0),
        ("lstm", [BOTH(i) for i in range(4)], 4),
        ("peephole lstm", [BOTH(i) for i in range(4)], 4),
        ("coupled lstm", [BOTH(i) for i in range(3)], 3),
        ("lstm of 1997", [BOTH(i) for i in range(3)], 3),
        ("gru", [OF_INPUT(2), BOTH(0), BOTH(1), OF_PAST(2)], 4),
        ("minimal gru", [OF_INPUT(0), OF_INPUT(1)], 2),
        ("multiplicative", [OF_INPUT(0), OF_INPUT(1), OF_PAST(0), OF_PAST(1)], 4),
        ("streams", [OF_INPUT(0), BOTH(1), OF_PAST(0)], 3),
        ("looking back", [BOTH(0)], 0),
    ],
)
def test_accumulators_and_what_is_saved(name, accumulators, saved) -> None:
    cell = CELLS[name]()
    found = plan(cell, torch.float32)
    assert list(found.accumulators) == accumulators
    assert len(found.forward.outputs) == 1 + len(cell.memories) + saved
    assert len(found.inference.outputs) == 1 + len(cell.memories)


def test_what_pointwise_itself_reads() -> None:
    back = plan(CELLS["looking back"](), torch.float32)
    assert back.pasts == (3,)
    assert back.reads_h
    skip = plan(CELLS["skip"](), torch.float32)
    assert skip.pasts == ()
    assert not skip.reads_h
    peepholes = plan(CELLS["peephole lstm"](), torch.float32)
    names = ("peephole_input", "peephole_forget", "peephole_output")
    assert peepholes.parameters == peepholes.parameter_gradients == tuple((n, 0) for n in names)
    multiplicative = plan(CELLS["multiplicative"](), torch.float32)
    assert multiplicative.parameters == (("alpha", 0), ("alpha", 1), ("beta", 0), ("rate", 0))
    assert multiplicative.parameter_gradients == (("alpha", 0), ("alpha", 1), ("beta", 0))


class Gated(tt.GatedCell):
    """A function of x, u and the state, which may be changed."""

    gates = 2
    memories = ("c",)

    def __init__(self, function, hidden_size=3, **options):
        super().__init__(2, hidden_size, **options)
        self.function = function

    def pointwise(self, x, u, state):
        return self.function(x, u, state)


@pytest.mark.parametrize(
    ("function", "accumulators"),
    [
        (lambda x, u, s: ((x[0] + u[0]).tanh(), s.c), [BOTH(0)]),
        (lambda x, u, s: ((u[0] + x[0]).tanh(), s.c), [BOTH(0)]),
        (lambda x, u, s: (x[0] + u[0], x[0] + u[0]), [BOTH(0)]),
        (lambda x, u, s: (x[0] + u[0], x[0]), [OF_INPUT(0), OF_PAST(0)]),
        (lambda x, u, s: (x[0] + u[0], u[0] * 1), [OF_INPUT(0), OF_PAST(0)]),
        (lambda x, u, s: (x[0] - u[0], s.c), [OF_INPUT(0), OF_PAST(0)]),
        (lambda x, u, s: (x[0] + u[1], s.c), [OF_INPUT(0), OF_PAST(1)]),
        (lambda x, u, s: (x[0] + u[0].detach(), s.c), [OF_INPUT(0), OF_PAST(0)]),
        (lambda x, u, s: (x[1].tanh(), s.h), [OF_INPUT(1)]),
        (lambda x, u, s: (u[1].tanh(), s.h), [OF_PAST(1)]),
        (lambda x, u, s: (s.c, s.h), []),
        (lambda x, u, s: (torch.zeros_like(s.c), torch.ones_like(s.c)), []),
        (lambda x, u, s: tuple((torch.stack(x) + torch.stack(u)).tanh()), [BOTH(0), BOTH(1)]),
        (
            lambda x, u, s: tuple((torch.cat(x, 1) + torch.cat(u, 1)).chunk(2, 1)),
            [BOTH(0), BOTH(1)],
        ),
    ],
)
def test_gates_are_summed_where_they_are_only_added(function, accumulators) -> None:
    cell = Gated(function).double()
    found = plan(cell, torch.float64)
    assert list(found.accumulators) == accumulators
    assert_plan_is_right(found, random_step(cell))


def test_gradient_of_its_own_is_noticed() -> None:
    """What is detached has no trace in a program, of which second derivatives would be wrong."""

    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    def without(x):
        with torch.no_grad():
            return x * 1

    for own in (Straight.apply, torch.detach, without, lambda x: torch.where(x > 9, x.data, x)):
        cell = Gated(lambda x, u, s, own=own: (x[0] * own(u[0]), s.c))
        found = plan(cell, torch.float64)
        assert not found.derived
        assert_plan_is_right(found, random_step(cell.double()))
    for plain in (torch.round, torch.tanh, lambda x: x * (x > 0), lambda x: x + s_of(x)):
        cell = Gated(lambda x, u, s, plain=plain: (x[0] * plain(u[0]), torch.zeros_like(s.c)))
        assert plan(cell, torch.float32).derived


def s_of(x: torch.Tensor) -> torch.Tensor:
    """The sigmoid, that torch has as an operation made of others."""
    return torch.special.expit(x) + torch.logit(x, 0.1) + torch.stack([x, x]).softmax(0)[0]


@settings(max_examples=examples(8))
@given(recipe=recipes())
def test_second_derivatives(recipe) -> None:
    """Of a program that is differentiated twice, as of the cell."""
    torch.manual_seed(0)
    cell = RandomCell(recipe, 2, 4, dtype=torch.float64)  # of which no parameter is 0
    found = plan(cell, torch.float64)
    if not found.derived:
        return
    step = random_step(cell)
    own = (step.streams,) if step.streams else ()
    result = bind(cell, step.tensors).pointwise(step.x, step.u, step.state, *own)
    theirs = result if isinstance(result, tuple) else (result,)

    def known(key: Key) -> torch.Tensor:
        accumulator = found.accumulators[key.index] if key.kind == "gate" else None
        if accumulator is not None:
            x, u = step.x[accumulator.gate], step.u[accumulator.gate] if step.u else 0.0
            return x * accumulator.of_input + u * accumulator.of_past
        if key.kind == "parameter":
            tensor = step.tensors[key.name]
            return (tensor[key.index] if tensor.dim() == 2 else tensor).expand(4)
        if key.kind == "past":
            return step.state.past[key.index - 2]
        return step.streams[key.index] if key.kind == "stream" else getattr(step.state, key.name)

    ours = evaluate(found.inference, known, step.state.h)
    leaves = list(named(step).values())
    try:
        expected = second_derivatives(theirs, leaves)
    except RuntimeError as error:  # hardsigmoid, for one
        if "is not implemented" in str(error):
            return
        raise
    for first, second in zip(expected, second_derivatives(ours, leaves), strict=True):
        scale = max(1.0, float(first.abs().max()))
        torch.testing.assert_close(second, first, rtol=1e-7, atol=1e-7 * scale)


def second_derivatives(results, leaves) -> list[torch.Tensor]:
    """Of the squared gradient of a sum, zero where there is none."""
    zeros = sum((leaf * 0).sum() for leaf in leaves)
    total = sum(r.sin().sum() for r in results) + zeros
    gradients = torch.autograd.grad(total, leaves, create_graph=True)
    size = sum((g * g).sum() for g in gradients) + zeros
    return list(torch.autograd.grad(size, leaves))


class Leaky(tt.GatedCell):
    """A cell with an attribute that its pointwise reads."""

    gates = 1
    bound = 1.0

    def __init__(self, input_size, hidden_size, rate, **options):
        super().__init__(input_size, hidden_size, **options)
        self.rate = rate

    def pointwise(self, x, u, state):
        return (1 - self.rate) * state.h + self.rate * (x[0] + u[0]).tanh().clamp(max=self.bound)


def test_equal_cells_share_a_plan() -> None:
    first = Leaky(2, 3, 0.1)
    found = plan(first, torch.float32)
    assert plan(Leaky(2, 3, 0.1), torch.float32) is found
    assert plan(copy.deepcopy(first), torch.float32) is found
    tensors = {n: torch.zeros_like(p) for n, p in first.named_parameters()}
    assert plan(bind(first, tensors), torch.float32) is found
    assert plan(first.eval(), torch.float32) == found
    first.train()
    assert first.additive in (True, False)  # noted in the cell once it is known
    assert plan(first, torch.float32) is found


def test_plans_follow_what_pointwise_reads(monkeypatch) -> None:
    cell = Leaky(2, 3, 0.1)
    before = plan(cell, torch.float32)
    cell.rate = 0.2
    changed = plan(cell, torch.float32)
    assert changed != before
    assert "0.2" in str(changed.forward)
    monkeypatch.setattr(Leaky, "bound", 0.5)
    assert plan(cell, torch.float32) != changed
    cell.rate = 0.1
    monkeypatch.undo()
    assert plan(cell, torch.float32) is before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ("a", b"a"),
        ([1, 2], (1, 2)),
        ([1, [2]], [1, [3]]),
        ({"a": 1}, {"a": 2}),
        (torch.tanh, torch.relu),
        (functools.partial(torch.clamp, min=0.0), functools.partial(torch.clamp, min=0.5)),
        (torch.float32, torch.float64),
        (torch.ones(2), torch.ones(2)),
        (object(), object()),
    ],
)
def test_attributes_are_told_apart(one, other) -> None:
    cell = Leaky(2, 3, 0.1)
    keys = []
    for value in (one, other, one):
        cell.other = value
        keys.append(fingerprint(cell, torch.float32)[0])
    assert keys[0] == keys[2] != keys[1]
    assert hash(keys[0]) == hash(keys[2])


def test_nan_is_one_value() -> None:
    keys = [fingerprint(Leaky(2, 3, math.nan), torch.float32)[0] for _ in range(2)]
    assert keys[0] == keys[1]


def test_shapes_and_submodules_are_in_the_fingerprint() -> None:
    keys = {
        fingerprint(cell, dtype)[0]
        for cell in (Leaky(2, 3, 0.1), Leaky(2, 4, 0.1), Leaky(2, 3, 0.1, bias=False))
        for dtype in (torch.float32, torch.float64)
    }
    assert len(keys) == 6
    cell = Leaky(2, 3, 0.1)
    cell.inner = torch.nn.Dropout(0.5)
    with_inner = fingerprint(cell, torch.float32)[0]
    cell.inner.p = 0.25
    assert fingerprint(cell, torch.float32)[0] != with_inner


def test_what_is_known_by_its_address_is_kept() -> None:
    """Or another object might come to lie there."""

    class Opaque:
        value = 0.5

    class Reading(Leaky):
        def pointwise(self, x, u, state):
            return x[0] * self.rate.value

    opaque = Opaque()
    alive = weakref.ref(opaque)
    plan(Reading(2, 3, opaque), torch.float32)
    del opaque
    gc.collect()
    assert alive() is not None


def test_refusals_are_kept_too(monkeypatch) -> None:
    class Summing(Leaky):
        def pointwise(self, x, u, state):
            return x[0].cumsum(-1)

    traced: list[object] = []

    def counting(cell, dtype):
        traced.append(cell)
        return trace(cell, dtype)

    monkeypatch.setattr(plans, "trace", counting)
    cell = Summing(2, 3, 0.1)
    for _ in range(3):
        with pytest.raises(UntraceableError, match=r"uses aten\.cumsum\.default, which is not"):
            plan(cell, torch.float32)
    assert len(traced) == 1


def test_threads_plan_at_once() -> None:
    found: list[object] = []
    cell = Leaky(2, 3, 0.123)
    threads = [
        threading.Thread(target=lambda: found.append(plan(cell, torch.float32)), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(p) for p in found}) == 1
    assert len(found) == 8


def test_plans_are_keys() -> None:
    """Equal plans of cells that differ share what is compiled."""
    one, other = (Leaky(2, width, 0.1) for width in (3, 4))
    plans = [plan(cell, torch.float32) for cell in (one, other)]
    assert plans[0] is not plans[1]
    assert plans[0] == plans[1]
    assert len({*plans}) == 1


def test_an_unchanged_cell_is_not_described_again(monkeypatch) -> None:
    described: list[object] = []

    def counting(cell, dtype):
        described.append(cell)
        return fingerprint(cell, dtype)

    cell = Leaky(2, 3, 0.1)
    tensors = {n: torch.zeros_like(p) for n, p in cell.named_parameters()}
    before = plan(cell, torch.float32)
    monkeypatch.setattr(plans, "fingerprint", counting)
    for same in (cell, bind(cell, tensors)):
        assert plan(same, torch.float32) is before
    assert not described
    for change in (
        lambda: setattr(cell, "rate", 0.2),
        lambda: setattr(cell, "other", 1),
        lambda: cell.eval(),
        lambda: cell.register_buffer("unit", torch.ones(3)),
        lambda: cell.register_buffer("unit", torch.ones(3, dtype=torch.int64)),
        lambda: monkeypatch.setattr(Leaky, "bound", 0.5),
    ):
        described.clear()
        change()
        plan(cell, torch.float32)
        assert described == [cell]
        plan(cell, torch.float32)
        assert described == [cell]
