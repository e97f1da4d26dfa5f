"""A layer one step at a time equals the layer over the sequence; so do calls of one step."""

import threading

import pytest
import torch
from cells.library import CELLS
from torch import nn

import throughtime as tt
from throughtime import errors
from throughtime.core.gated import GatedCell
from throughtime.core.state import state_tensors
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.layers.one_step import run_one_step

needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


def equal(found, expected) -> None:
    for a, b in zip(state_tensors(found), state_tensors(expected), strict=True):
        torch.testing.assert_close(a, b)


def stepped(stepper, x):
    return torch.stack([stepper(x_t) for x_t in x])


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", sorted(CELLS))
@torch.no_grad()
def test_steps_equal_the_sequence_for_every_cell(name) -> None:
    layer = tt.Recurrent(CELLS[name](3, 4), engine="eager")
    x = torch.randn(4, 2, 3)
    expected, end = layer.eval()(x)
    layer.engine = "auto"
    stepper = layer.stepper(2)
    torch.testing.assert_close(stepped(stepper, x), expected)
    equal(stepper.state, end)
    cell = layer.cells()[0]
    compiled = isinstance(cell, GatedCell) and cell.standard and not cell.streams
    if compiled and not isinstance(find_compiler(), str):
        assert stepper.engine == "native"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 3, 40])
@pytest.mark.parametrize("kind", [tt.LSTM, tt.GRU, tt.RNN])
@torch.no_grad()
def test_steps_and_calls_of_one_step_equal_the_reference(kind, batch, dtype) -> None:
    """Two levels, and sizes that are no multiple of a vector."""
    layer = kind(5, 19, 2, dtype=dtype)
    x = torch.randn(3, batch, 5, dtype=dtype)
    reference = kind(5, 19, 2, dtype=dtype, engine="eager")
    reference.load_state_dict(layer.state_dict())
    expected, end = reference(x)
    torch.testing.assert_close(stepped(layer.stepper(batch), x), expected)
    _, state = layer(x[:1])
    rest = []
    for x_t in x[1:]:
        y, state = layer(x_t[None], state)
        rest.append(y[0])
    torch.testing.assert_close(torch.stack(rest), expected[1:])
    equal(state, end)


@needs_compiler
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_call_of_one_step_is_compiled_and_leaves_its_arguments(batch_first) -> None:
    layer = tt.LSTM(3, 4, batch_first=batch_first)
    x = torch.randn(2, 1, 3) if batch_first else torch.randn(1, 2, 3)
    hx = (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    before = tuple(t.clone() for t in hx)
    with torch.inference_mode():
        found = run_one_step(layer, x, hx)
    assert found is not None
    y, (h, c) = found
    layer.engine = "eager"
    expected, end = layer(x, hx)
    torch.testing.assert_close(y, expected)
    equal((h, c), end)
    equal(hx, before)
    with torch.inference_mode():
        y.zero_()
    assert h.abs().min() > 0, "the output and the state share no memory"


@needs_compiler
@torch.no_grad()
def test_changes_of_the_layer_take_effect_at_once() -> None:
    layer = tt.GRU(3, 4)
    stepper = layer.stepper(2)
    x, state = torch.randn(2, 3), torch.randn(1, 2, 4)

    def check(engine: str) -> None:
        like = next(layer.parameters()).dtype
        stepper.state = state.to(like)
        assert stepper.engine == engine
        found = stepper(x.to(like))
        expected, end = layer(x.to(like)[None], state.to(like), lengths=[1, 1])
        torch.testing.assert_close(found, expected[0])
        torch.testing.assert_close(stepper.state, end)

    check("native")
    layer.weight_hh_l0.mul_(2)
    check("native")
    layer.weight_hh_l0.data = torch.randn(12, 4)
    check("native")
    layer.weight_ih_l0 = nn.Parameter(torch.randn(12, 3))
    check("native")
    layer.double()
    check("native")
    layer.engine = "eager"
    check("layer")
    layer.engine = "auto"
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    check("layer")
    layer.parametrizations.weight_hh_l0.original0.mul_(3)
    check("layer")


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "skip RNN", "zoneout", "deep output"])
@torch.no_grad()
def test_the_state_is_read_set_and_reset_by_row(name) -> None:
    stepper = tt.Recurrent(CELLS[name](3, 4)).eval().stepper(3)
    x = torch.randn(5, 3, 3)
    initial = stepper.state
    stepped(stepper, x)
    state = stepper.state
    first = stepper(x[0])
    kept = first.clone()
    stepper.state = state
    torch.testing.assert_close(stepper(x[0]), first)
    stepper(x[1])
    torch.testing.assert_close(first, kept)  # no later step writes to an output
    torch.testing.assert_close(stepper(x[0], state), first)
    for rows in ([1], torch.tensor([False, True, False])):
        stepper.state = state
        stepper.reset(rows)
        for now, old, fresh in zip(
            *map(state_tensors, (stepper.state, state, initial)), strict=True
        ):
            torch.testing.assert_close(now[:, 1], fresh[:, 1])
            torch.testing.assert_close(now[:, ::2], old[:, ::2])
    stepper.reset()
    equal(stepper.state, initial)


@needs_compiler
@torch.no_grad()
def test_threads_may_step_one_layer_at_once() -> None:
    layer = tt.LSTM(8, 16)
    x = torch.randn(200, 1, 8)
    _, start = layer(x[:1])
    found = {}

    def run(number: int) -> None:
        with torch.no_grad():
            state, outputs = start, []
            for x_t in x:
                y, state = layer(number * x_t[None], state)
                outputs.append(y[0])
            found[number] = torch.stack(outputs)

    threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, outputs in found.items():
        torch.testing.assert_close(outputs, layer(number * x, start)[0])


def test_what_does_not_fit_is_refused(unchecked) -> None:
    with pytest.raises(errors.ConfigurationError, match="bidirectional layer"):
        tt.LSTM(3, 4, bidirectional=True).stepper()
    for size in (0, 1.5):
        with pytest.raises(errors.ConfigurationError, match="batch_size"):
            tt.LSTM(3, 4).stepper(size)
    stepper = tt.LSTM(3, 4).stepper(2)
    for wrong in (torch.zeros(3), torch.zeros(1, 3), torch.zeros(2, 4), torch.zeros(1, 2, 3)):
        with pytest.raises(errors.ShapeError, match=r"expected \(2, 3\)"):
            stepper(wrong)
    with pytest.raises(errors.DtypeError):
        stepper(torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(errors.StateError):
        stepper(torch.zeros(2, 3), torch.zeros(1, 2, 4))
    with torch.no_grad(), pytest.raises(errors.StateError):
        tt.LSTM(3, 4)(torch.zeros(1, 2, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 2, 5)))


@torch.no_grad()
def test_no_gradient_and_no_step_is_left_out_under_autocast() -> None:
    layer = tt.LSTM(3, 4)
    stepper = layer.stepper(2)
    x = torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = stepper(x), layer(x[None])[0][0]
    assert found.dtype is expected.dtype
    torch.testing.assert_close(found, expected)
    with torch.enable_grad():
        assert not layer.stepper(2)(x.requires_grad_()).requires_grad
