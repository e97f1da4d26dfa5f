"""Plans for a memory budget: against all plans there are, the closed form, and what really runs."""

from functools import cache
from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import throughtime as tt
from throughtime.core.errors import ConfigurationError, EngineRefusalError
from throughtime.core.state import map_state, state_tensors
from throughtime.engines import Request
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.eager import unroll
from throughtime.engines.recomputation import every, run_again, steps_of, within


def steps_run(plan) -> int:
    """Forward and in the backward pass."""
    return plan if isinstance(plan, int) else steps_of(plan[0]) + sum(map(steps_run, plan))


def peak(plan, state: int, step: int) -> int:
    """The most that is kept at once, beside the state that the plan starts from."""
    if isinstance(plan, int):
        return plan * step
    return max(state + peak(plan[1], state, step), peak(plan[0], state, step))


@cache
def all_plans(time: int) -> list:
    plans: list = [time]
    for y in range(1, time):
        plans += [(a, b) for a in all_plans(y) for b in all_plans(time - y)]
    return plans


@given(
    time=st.integers(1, 7),
    budget=st.integers(1, 30),
    state=st.integers(1, 5),
    step=st.integers(1, 5),
)
def test_no_plan_within_the_budget_runs_fewer_steps(time, budget, state, step) -> None:
    fitting = [steps_run(p) for p in all_plans(time) if peak(p, state, step) <= budget]
    if not fitting:
        with pytest.raises(ConfigurationError, match=r"memory_budget: got .* expected at least"):
            within(time, budget, state, step)
        return
    plan = within(time, budget, state, step)
    assert steps_of(plan) == time
    assert peak(plan, state, step) <= budget
    assert steps_run(plan) == min(fitting)


@given(time=st.integers(1, 100), slots=st.integers(1, 12))
def test_with_room_for_one_step_it_is_the_binomial_schedule(time, slots) -> None:
    """t + r t - C(m + r, m + 1), with the least r such that C(m + r, m) >= t (Griewank 1992)."""
    plan = within(time, 100 + slots, 1, 100)
    r = next(r for r in range(time) if comb(slots + r, slots) >= time) if time > 1 else 0
    assert steps_run(plan) == time + r * time - comb(slots + r, slots + 1)


def test_long_sequences_are_cut_between_blocks() -> None:
    plan = within(10_000, 1_000, 1, 2)
    assert steps_of(plan) == 10_000
    assert peak(plan, 1, 2) <= 1_000
    assert steps_run(plan) < 20_000
    assert within(10_000, 20_000, 1, 2) == 10_000
    with pytest.raises(
        ConfigurationError, match=r"got 100 bytes, expected at least 159 for 10,000"
    ):
        within(10_000, 100, 1, 2)
    assert steps_of(within(10_000, 159, 1, 2)) == 10_000
    # segments of 316 steps keep less than a block of 782
    plan = within(100_000, 633, 1, 1)
    assert steps_of(plan) == 100_000
    assert plan[0] == 316
    with pytest.raises(ConfigurationError, match=r"expected at least 633 for 100,000 steps"):
        within(100_000, 632, 1, 1)


@given(time=st.integers(1, 40), steps=st.integers(1, 45))
def test_equal_segments(time, steps) -> None:
    plan, sizes = every(time, steps), []
    while not isinstance(plan, int):
        first, plan = plan
        sizes.append(first)
    assert sizes == [steps] * ((time - 1) // steps)
    assert plan == time - sum(sizes)


@pytest.mark.parametrize("slots", [1, 2, 5, 30])
def test_as_many_steps_run_as_were_planned_and_gradients_are_the_same(slots: int) -> None:
    torch.manual_seed(0)
    cell = tt.cells.LSTMCell(2, 3, dtype=torch.float64)
    x = torch.randn(40, 2, 2, dtype=torch.float64, requires_grad=True)
    request = Request(cell, x, cell.initial_state(2, dtype=x.dtype, device=x.device))
    plan = within(40, 100 + slots, 1, 100)
    steps = 0

    def run(part: Request):
        nonlocal steps
        steps += len(part.inputs)
        return unroll(part)

    found = []
    for result in (run_again(request, plan, run), unroll(request)):
        loss = result.outputs.square().sum() + result.state.c.sum()
        found.append(torch.autograd.grad(loss, [x, *cell.parameters()]))
    assert steps == steps_run(plan)
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stored", [{"checkpoint": 3}, {"memory_budget": 3_000}])
def test_what_the_caller_changes_in_place_is_not_read_again(stored: dict) -> None:
    layer, x = tt.GRU(2, 3, engine="eager"), torch.randn(30, 2, 2)
    reset = torch.rand(30, 2) < 0.2
    found = []
    for change in (False, True):
        start, mask = torch.ones(1, 2, 3), reset.clone()
        with tt.engine_options(**stored):
            outputs, _ = layer(x, start, reset=mask)
        if change:
            start.zero_()
            mask.fill_(value=True)
        found.append(torch.autograd.grad(outputs.square().sum(), list(layer.parameters())))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)
    layer.weight_ih_l0.requires_grad_(False)  # else autograd itself keeps the inputs, and sees it
    with tt.engine_options(**stored):
        outputs, _ = layer(x)
    x.zero_()
    with pytest.raises(EngineRefusalError, match="changed in place"):
        outputs.square().sum().backward()


ENGINES = [
    "eager",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler"),
    ),
]


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("more", ["", "reset", "lengths"])
@pytest.mark.parametrize("kind", [tt.LSTM, tt.RNN])
@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_graph_keeps_is_within_the_budget(kind, engine, more, share) -> None:
    """Beside outputs and inputs, which are the caller's."""
    torch.manual_seed(0)
    layer = kind(3, 16, engine=engine)
    x = torch.randn(200, 4, 3, requires_grad=True)
    given = {
        "": {},
        "reset": {"reset": torch.rand(200, 4) < 0.1},
        "lengths": {"lengths": [200, 150, 30, 199]},
    }[more]

    def kept(**options) -> int:
        sizes: dict[int, int] = {}

        def seen(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with (
            tt.engine_options(**options),
            torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor),
        ):
            outputs, state = layer(x, **given)
        theirs = [x, outputs, *layer.parameters(), *state_tensors(map_state(lambda s: s, state))]
        for tensor in theirs:
            sizes.pop(tensor.untyped_storage().data_ptr(), None)
        return sum(sizes.values())

    whole = kept()
    budget = max(int(share * whole), 5_000)  # RNN, native: outputs alone are kept
    assert kept(memory_budget=budget) <= budget
    assert kept(memory_budget=2 * whole) == whole
