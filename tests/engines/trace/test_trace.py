"""What a cell computes, as it is written down, is what torch computes; what is not, is refused."""

import functools
import itertools
import threading

import pytest
import torch
import torch.nn.functional as F
from engines.trace import pointwise_functions as functions
from engines.trace.plan_checks import Step, assert_plan_is_right, by_plan, in_torch, random_step
from engines.trace.random_pointwise import RandomCell, recipes
from examples import examples
from hypothesis import given, settings
from torch import nn

import throughtime as tt
from throughtime.engines.trace.plan import plan
from throughtime.engines.trace.program import Key, UntraceableError, evaluate
from throughtime.engines.trace.tracing import isolated, trace

SPECIAL = (
    *(float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0),
    *(-6.0, 20.0, 21.0, 1.5, -1.5, 2.5, -2.5, 1e-8, -1e-8, 0.01, 100.0, -100.0, 0.1, 0.3, 3.5),
)
"""Limits, ties, and the thresholds of torch's functions."""

TABLES = {
    1: functions.ONE | functions.ONE_WITH_JUMPS,
    2: functions.TWO | functions.TWO_WITH_JUMPS,
    3: functions.THREE,
}
ALL = [(count, name) for count, table in TABLES.items() for name in table]


class Applied(tt.GatedCell):
    """A function of the gates of the input."""

    gates = 1
    lags = ()

    def __init__(self, function, gates, hidden_size, **options):
        self.gates = gates
        super().__init__(1, hidden_size, **options)
        self.function = function

    def pointwise(self, x, u, state):
        return self.function(*x)


class Free(tt.GatedCell):
    """A function of all that a cell sees."""

    gates = 2
    memories = ("c",)

    def __init__(self, function, hidden_size=4, **options):
        super().__init__(3, hidden_size, **options)
        self.function = function
        self.register_buffer("scale", torch.ones(()))

    def pointwise(self, x, u, state):
        return self.function(self, x, u, state), state.c


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("count", "name"), ALL)
def test_function_and_its_gradient(count, name, dtype) -> None:
    """Of every pair or triple of special numbers, as torch has it in this dtype."""
    cell = Applied(TABLES[count][name], count, len(SPECIAL), dtype=dtype)
    special = SPECIAL if count < 3 else SPECIAL[::2]
    columns = torch.tensor(list(itertools.product(special, repeat=count)), dtype=dtype)
    columns = F.pad(columns, (0, 0, 0, -len(columns) % len(SPECIAL)))
    step = random_step(cell, dtype=dtype)
    step.x = tuple(c.view(-1, len(SPECIAL)).clone().requires_grad_() for c in columns.unbind(1))
    step.cotangents = (torch.rand_like(step.x[0]) + 0.5,)
    step.state = type(step.state)(torch.zeros_like(step.x[0]))

    (expected,), gradients = in_torch(step)
    (actual,), found = by_plan(plan(cell, dtype), step)
    if name == "gelu" and dtype == torch.float32:  # torch's is nan at infinity
        expected = torch.where(step.x[0] == torch.inf, torch.inf, expected)
    assert_near(actual, expected, step)
    for k in range(count):
        gradient = gradients[f"x{k}"]
        gradient = torch.zeros_like(step.x[k]) if gradient is None else gradient
        if count == 1:  # of nan, torch's vector code has another gradient than its scalar code
            gradient = torch.where(step.x[0].isnan(), found[f"x{k}"], gradient)
        assert_near(found[f"x{k}"], gradient, step)
        if dtype == torch.float64 and (count, name) not in [(1, "no gradient"), (3, "clamp")]:
            finite = torch.stack([t.isfinite() for t in (*step.x, expected)]).all(0)
            again = torch.where(finite, of_program(cell, step)[k], gradient)
            # and rounds a few constants of its gradients to single precision
            assert_near(again, gradient, step, 1e-7)


def of_program(cell: Applied, step: Step) -> list[torch.Tensor]:
    """The gradients that torch derives from the program of a function."""
    found = plan(cell, step.x[0].dtype)

    def known(key: Key) -> torch.Tensor:
        return step.x[found.accumulators[key.index].gate]

    (result,) = evaluate(found.inference, known, step.x[0])
    loss = sum((x * 0).sum() for x in step.x) + (result * step.cotangents[0]).sum()
    return list(torch.autograd.grad(loss, step.x))


def assert_near(
    actual: torch.Tensor, expected: torch.Tensor, step: Step, eps: float | None = None
) -> None:
    """Within rounding of the result, or of the numbers that it is made from."""
    size = 1 + sum(x.detach().nan_to_num(0.0, 0.0, 0.0).abs() for x in step.x)
    eps = 64 * torch.finfo(expected.dtype).eps if eps is None else eps
    actual, expected = actual.detach(), expected.detach()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    close = same | ((actual - expected).abs() <= eps * (size + expected.abs()))
    wrong = (~close).nonzero()[:5].tolist()
    shown = [
        ([float(x.detach()[i, j]) for x in step.x], float(actual[i, j]), float(expected[i, j]))
        for i, j in wrong
    ]
    assert not wrong, shown


@settings(max_examples=examples(20))
@given(recipe=recipes())
def test_random_cell(recipe) -> None:
    """Forward, backward and second derivatives of functions that are finite."""
    torch.manual_seed(0)
    cell = RandomCell(recipe, 2, 4, dtype=torch.float64)
    found = plan(cell, torch.float64)
    assert_plan_is_right(found, random_step(cell), rtol=1e-8)
    assert found.derived or "no gradient" in str(recipe)


@settings(max_examples=examples(20))
@given(recipe=recipes(wild=True))
def test_wild_random_cell(recipe) -> None:
    """Forward and backward of functions that jump, overflow or are undefined somewhere."""
    torch.manual_seed(0)
    cell = RandomCell(recipe, 2, 4, dtype=torch.float64)
    assert_plan_is_right(plan(cell, torch.float64), random_step(cell), rtol=1e-8)


class Parametrized(tt.GatedCell):
    """Unit parameters of all shapes, in a submodule too, and buffers."""

    gates = 2

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.unit = nn.Parameter(torch.rand(hidden_size))
        self.rows = nn.Parameter(torch.rand(3, hidden_size))
        self.number = nn.Parameter(torch.tensor(0.3))
        self.single = nn.Parameter(torch.rand(1))
        self.unread = nn.Parameter(torch.rand(hidden_size))
        self.matrix = nn.Parameter(torch.rand(5, 7))
        self.inner = nn.Module()
        self.inner.register_parameter("slope", nn.Parameter(torch.rand(hidden_size)))
        self.register_buffer("shift", torch.rand(hidden_size))
        self.tied = self.unit

    def pointwise(self, x, u, state):
        first, second = self.rows.sigmoid()[:2]
        a = first * x[0] + self.unit * u[0] + self.number
        b = F.prelu(x[1] + self.shift, self.inner.slope) * self.single
        scaled = self.rows[:, None] * torch.stack([a, b, a])
        return (scaled.sum(0) + second * u[1]).tanh() * self.tied[None]


@pytest.mark.parametrize("hidden", [1, 2, 3, 5])
def test_parameters_of_every_shape(hidden) -> None:
    cell = Parametrized(2, hidden)
    found = plan(cell, torch.float64)
    assert_plan_is_right(found, random_step(cell))
    read = {name for name, _ in found.parameters}
    assert read == {"unit", "rows", "number", "single", "inner.slope", "shift", "tied"}
    assert {name for name, _ in found.parameter_gradients} == read - {"shift"}
    assert ("rows", 2) in found.parameters


REFUSED = {
    "aten.cumsum.default, which is not elementwise": lambda s, x, u, h: x[0].cumsum(-1),
    "aten.sum.default, which is not elementwise": lambda s, x, u, h: (
        x[0] if x[0].sum() > 0 else x[1]
    ),
    "aten.mm.default, which is not elementwise": lambda s, x, u, h: x[0] @ x[1].t() @ u[0],
    "aten._softmax.default, which is not elementwise": lambda s, x, u, h: x[0].softmax(-1),
    "aten.slice.Tensor, which is not elementwise": lambda s, x, u, h: x[0] * u[0][:, :1],
    "must not branch on values; use torch.where": lambda s, x, u, h: (
        x[0] if torch.ones(()) > 0 else x[1]
    ),
    "reads the value of a tensor in Python": lambda s, x, u, h: x[0] * float(s.scale),
    "draws random numbers with aten.": lambda s, x, u, h: F.dropout(x[0], 0.5),
    "with aten.rand_like.default": lambda s, x, u, h: x[0] * torch.rand_like(x[0]),
    "compute in float16. The run computes in float64": lambda s, x, u, h: x[0].half().double(),
    "compute in int64": lambda s, x, u, h: x[0].long() * u[0],
    "aten.mul.Tensor, which is not elementwise": lambda s, x, u, h: (x[0] * 1j).real,
    "is neither given to it nor a parameter": lambda s, x, u, h: x[0] * OUTSIDE,
    "reads weight_ih, of shape (8, 3), which is no unit parameter": lambda s, x, u, h: (
        x[0] * s.weight_ih[0, 0]
    ),
    "does not do the same twice": lambda s, x, u, h: x[0] * len(x[0]),
    "it depends on values in Python": lambda s, x, u, h: x[0] * float(x[0].detach().numpy()[0, 0]),
    "raised ValueError when it was traced: no": lambda s, x, u, h: fail("no"),
    "got 2 results, expected the tensors (h, c)": lambda s, x, u, h: 1.0,
    "all of (11, 4) (batch, hidden)": lambda s, x, u, h: torch.ones(4, dtype=x[0].dtype),
    "changes in place, with aten.mul_.Tensor": lambda s, x, u, h: h.h.detach().mul_(x[0]),
    "writes into a given tensor": lambda s, x, u, h: torch.mul(
        x[0].detach(), 2, out=torch.zeros_like(x[0])
    ),
}
OUTSIDE = torch.ones(4, dtype=torch.float64)


def fail(message: str) -> None:
    raise ValueError(message)


@pytest.mark.parametrize("message", REFUSED)
def test_refusal_says_why(message) -> None:
    with pytest.raises(UntraceableError) as refused:
        plan(Free(REFUSED[message]), torch.float64)
    assert message in str(refused.value)


def test_refusal_that_pointwise_catches_is_a_refusal() -> None:
    def careful(cell, x, u, state):
        try:
            return x[0].cumsum(-1)
        except UntraceableError:
            return x[0]

    with pytest.raises(UntraceableError, match="cumsum"):
        plan(Free(careful), torch.float64)


def test_steps_must_not_be_read() -> None:
    class Counting(tt.GatedCell):
        gates, streams = 1, ("tick",)

        def pointwise(self, x, u, state, streams):
            return x[0] * streams[0] * state.steps[:, None]

        def draw_streams(self, steps, *, training, dtype, generator):
            return (torch.ones(*steps.shape, 1, dtype=dtype),)

    with pytest.raises(UntraceableError, match=r"reads state\.steps"):
        plan(Counting(2, 3), torch.float32)


def test_stream_of_booleans() -> None:
    class Masked(tt.GatedCell):
        gates, streams = 1, ("keep",)

        def pointwise(self, x, u, state, streams):
            return torch.where(streams[0], state.h, (x[0] + u[0]).tanh())

        def draw_streams(self, steps, *, training, dtype, generator):
            return (steps[..., None].expand(*steps.shape, self.hidden_size) % 2 == 0,)

    cell = Masked(2, 3)
    assert_plan_is_right(plan(cell, torch.float64), random_step(cell))


@pytest.mark.parametrize(
    "mode",
    [
        torch.no_grad,
        torch.inference_mode,
        functools.partial(torch.autocast, "cpu"),
        functools.partial(torch.device, "meta"),
        lambda: torch.autograd.graph.saved_tensors_hooks(fail, fail),
    ],
)
def test_caller_neither_disturbs_nor_is_disturbed(mode) -> None:
    expected = trace(tt.cells.LSTMCell(2, 3), torch.float32)
    before = torch.get_rng_state()
    cell = tt.cells.LSTMCell(2, 3)
    drawn = torch.get_rng_state()
    with mode():
        states = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        assert trace(cell, torch.float32) == expected
        assert states == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not torch.equal(before, drawn)  # the cell's own draws


def test_threads_trace_at_once() -> None:
    cells = [tt.cells.GRUCell(2, width) for width in range(1, 9)]
    found = [trace(cell, torch.float32) for cell in cells]
    again: dict[int, object] = {}
    threads = [
        threading.Thread(
            target=lambda i=i, c=cell: again.update({i: trace(c, torch.float32)}), daemon=True
        )
        for i, cell in enumerate(cells)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [again[i] for i in range(len(cells))] == found


def test_error_of_the_other_thread_is_raised_here() -> None:
    with pytest.raises(KeyError, match="lost"):
        isolated(lambda: {}["lost"])
