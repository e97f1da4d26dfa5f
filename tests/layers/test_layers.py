"""What layers give beyond torch's: lengths, resets, states, any cell, copies and transforms."""

import copy
import pickle
import textwrap

import pytest
import torch
import warm
from cells.samples import StreamedCell
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import throughtime as tt
from throughtime.cells import ChoGRUCell, CoupledLSTMCell, ElmanCell, LSTM1997Cell, LSTMCell
from throughtime.core.state import map_state, state_tensors

pytestmark = pytest.mark.without_compiler

CELLS = {
    "skip": (ElmanCell, {"lags": (1, 3)}),
    "peephole": (LSTMCell, {"peepholes": True}),
    "coupled": (CoupledLSTMCell, {}),
    "1997": (LSTM1997Cell, {}),
    "cho": (ChoGRUCell, {}),
    "streamed": (StreamedCell, {}),
}


def any_layer(name, **kwargs):
    cell, options = CELLS[name]
    return tt.Recurrent(cell, 3, 4, dtype=torch.float64, **options, **kwargs).eval()


def tensors(result):
    output, state = result[:2]
    return [output, *state_tensors(state)]


@settings(max_examples=examples(15))
@given(
    name=st.sampled_from(sorted(CELLS)),
    layers=st.integers(1, 3),
    both=st.booleans(),
    first=st.booleans(),
    time=st.integers(1, 9),
    data=st.data(),
)
def test_lengths_run_each_sequence_alone(name, layers, both, first, time, data):
    """Padding, were it NaN, changes no valid output, state or gradient."""
    layer = any_layer(name, num_layers=layers, bidirectional=both, batch_first=first)
    lengths = data.draw(st.lists(st.integers(1, time), min_size=1, max_size=4))
    x = torch.randn(time, len(lengths), 3, dtype=torch.float64)
    for b, length in enumerate(lengths):
        x[length:, b] = torch.nan
    x.requires_grad_()
    given_x = x.transpose(0, 1) if first else x
    output, state = layer(given_x, lengths=lengths)
    output = output.transpose(0, 1) if first else output
    loss = output.square().sum() + sum(
        s.square().sum() for s in state_tensors(state) if s.is_floating_point()
    )
    gradients = torch.autograd.grad(loss, [x, *layer.parameters()])
    expected = [torch.zeros_like(g) for g in gradients]
    for b, length in enumerate(lengths):
        row = x[:length, b].detach().requires_grad_()
        alone, end = layer(row)
        torch.testing.assert_close(output[:length, b], alone, rtol=1e-10, atol=1e-10)
        assert not output[length:, b].any()
        got = map_state(lambda s, b=b: s[:, b], state)
        torch.testing.assert_close(state_tensors(got), state_tensors(end), rtol=1e-10, atol=1e-10)
        loss = alone.square().sum() + sum(
            s.square().sum() for s in state_tensors(end) if s.is_floating_point()
        )
        for total, g in zip(
            expected[1:],
            torch.autograd.grad(loss, [row, *layer.parameters()])[1:],
            strict=True,
        ):
            total += g
        expected[0][:length, b] = torch.autograd.grad(
            layer(row)[0].square().sum() + _end_loss(layer, row), row
        )[0]
    torch.testing.assert_close(list(gradients), expected, rtol=1e-9, atol=1e-9)


def _end_loss(layer, row):
    return sum(s.square().sum() for s in state_tensors(layer(row)[1]) if s.is_floating_point())


@settings(max_examples=examples(15))
@given(
    name=st.sampled_from(sorted(CELLS)),
    layers=st.integers(1, 2),
    both=st.booleans(),
    time=st.integers(2, 9),
    data=st.data(),
)
def test_a_reset_cuts_both_directions_at_the_same_border(name, layers, both, time, data):
    """Outputs equal those of the pieces between resets, run as sequences of their own."""
    layer = any_layer(name, num_layers=layers, bidirectional=both)
    batch = data.draw(st.integers(1, 3))
    lengths = data.draw(st.lists(st.integers(1, time), min_size=batch, max_size=batch))
    flags = data.draw(
        st.lists(
            st.lists(st.booleans(), min_size=batch, max_size=batch), min_size=time, max_size=time
        )
    )
    reset = torch.tensor(flags)
    x = torch.randn(time, batch, 3, dtype=torch.float64)
    output, _, states = layer(x, lengths=lengths, reset=reset, return_states=True)
    for b, length in enumerate(lengths):
        starts = [0, *(t for t in range(1, length) if reset[t, b])]
        for start, stop in zip(starts, [*starts[1:], length], strict=True):
            alone, end = layer(x[start:stop, b])
            torch.testing.assert_close(output[start:stop, b], alone, rtol=1e-10, atol=1e-10)
            ends = map_state(lambda s, t=stop - 1, b=b: s[t, :: layer.num_directions, b], states)
            forward = map_state(lambda s: s[:: layer.num_directions], _named(end, states))
            torch.testing.assert_close(
                state_tensors(ends), state_tensors(forward), rtol=1e-10, atol=1e-10
            )


def _named(state, like):
    return type(like)(state) if isinstance(state, torch.Tensor) else state


def test_a_reset_drops_the_given_state_and_carries_no_gradient():
    layer = tt.LSTM(3, 4, bidirectional=True, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    hx = tuple(torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    reset = torch.zeros(6, 2, dtype=torch.bool)
    reset[0, 0] = reset[3] = True
    output, _ = layer(x, hx, reset=reset)
    forward = output[:, :, :4]
    torch.testing.assert_close(forward[:3, 0], layer(x[:3, 0])[0][:, :4])
    (late,) = torch.autograd.grad(output[3:].square().sum(), x, retain_graph=True)
    (early,) = torch.autograd.grad(output[:3].square().sum(), x)
    assert not late[:3].any()
    assert late[3:].any()
    assert not early[3:].any()
    assert early[:3].any()


@pytest.mark.parametrize("name", sorted(CELLS))
@pytest.mark.parametrize("first", [False, True])
def test_states_at_every_step_end_in_the_final_state(name, first):
    layer = any_layer(name, num_layers=2, bidirectional=True, batch_first=first)
    x = torch.randn(3, 6, 3, dtype=torch.float64) if first else torch.randn(6, 3, 3).double()
    output, final, states = layer(x, return_states=True)
    final = _named(final, states)
    for every, last in zip(state_tensors(states), state_tensors(final), strict=True):
        assert every.shape == (6, *last.shape)
        assert torch.equal(every[-1, 0::2], last[0::2])
        assert torch.equal(every[0, 1::2], last[1::2])
    top = torch.cat([states.h[:, 2], states.h[:, 3]], -1)
    assert torch.equal(output.transpose(0, 1) if first else output, top)


@pytest.mark.parametrize("name", sorted(CELLS))
def test_state_is_explicit_and_carries_on(name):
    layer = any_layer(name, num_layers=2)
    x = torch.randn(8, 2, 3, dtype=torch.float64)
    whole = layer(x)
    middle = layer(x[:3])
    rest = layer(x[3:], middle[1])
    torch.testing.assert_close(torch.cat([middle[0], rest[0]]), whole[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tensors(rest)[1:], tensors(whole)[1:], rtol=1e-10, atol=1e-10)


def test_an_initial_h_alone_is_accepted_where_the_past_is_zeros():
    layer = tt.RNN(3, 4, lags=(1, 5), dtype=torch.float64)
    x, h = torch.randn(7, 2, 3, dtype=torch.float64), torch.randn(1, 2, 4, dtype=torch.float64)
    state = layer(x)[1]
    zeros = type(state)(h, tuple(torch.zeros_like(h) for _ in range(4)))
    torch.testing.assert_close(layer(x, h)[0], layer(x, zeros)[0])
    torch.testing.assert_close(layer(x, (h,))[0], layer(x, zeros)[0])


def test_streams_are_drawn_once_a_call_from_the_global_generator():
    layer = tt.Recurrent(StreamedCell, 3, 4, dtype=torch.float64)
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    torch.manual_seed(5)
    first = layer(x)[0]
    assert not torch.equal(layer(x)[0], first)
    torch.manual_seed(5)
    assert torch.equal(layer(x)[0], first)
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_a_stack_is_a_cell_with_the_layer_s_own_parameters():
    layer = any_layer("streamed", num_layers=3)
    cell = layer.as_cell()
    own = {id(p) for p in layer.parameters()}
    assert {id(p) for p in cell.parameters()} == own
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    again = tt.Recurrent(cell).eval()
    torch.testing.assert_close(again(x)[0], layer(x)[0], rtol=1e-10, atol=1e-10)
    with pytest.raises(tt.errors.ConfigurationError, match="a bidirectional layer"):
        tt.LSTM(3, 4, bidirectional=True).as_cell()
    with pytest.raises(tt.errors.ConfigurationError, match=r"dropout=0\.5 between layers"):
        tt.LSTM(3, 4, 2, dropout=0.5).as_cell()


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", *sorted(CELLS)])
def test_copies_give_the_same(name):
    layer = getattr(tt, name)(3, 4, 2) if hasattr(tt, name) else any_layer(name).float()
    layer.eval()
    x = torch.randn(5, 2, 3)
    for duplicate in (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))):
        twin = duplicate(layer)
        torch.testing.assert_close(tensors(twin(x)), tensors(layer(x)), rtol=0, atol=0)
        with torch.no_grad():
            next(twin.parameters()).add_(1)
        assert not torch.equal(twin(x)[0], layer(x)[0])
        twin.reset_parameters()


def test_layers_with_initializers_can_be_pickled():
    start = [
        tt.initializers.orthogonal(),
        tt.initializers.uniform(0.1, parameter="weight_ih"),
        tt.initializers.chrono(50),
        tt.initializers.forget_bias(2.0),
    ]
    layer = tt.LSTM(3, 4, initializers=start)
    pickle.loads(pickle.dumps(layer)).reset_parameters()


# not "streamed": vmap itself refuses to draw at random
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", *sorted({*CELLS} - {"streamed"})])
def test_functional_call_vmap_and_jacrev(name):
    if hasattr(tt, name):
        layer = getattr(tt, name)(3, 4, 2, bidirectional=True, dtype=torch.float64)
    else:
        layer = any_layer(name, num_layers=2)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    stacked = {n: torch.stack([p, 2 * p]).detach() for n, p in layer.named_parameters()}

    def function(parameters):
        return torch.func.functional_call(layer, parameters, (x,))[0]

    together = torch.func.vmap(function)(stacked)
    for i in range(2):
        alone = function({n: p[i] for n, p in stacked.items()})
        torch.testing.assert_close(together[i], alone, rtol=1e-10, atol=1e-10)
    one = {n: p[0] for n, p in stacked.items()}
    jacobian = torch.func.jacrev(function)(one)["weight_hh_l0"]
    leaves = {n: p.clone().requires_grad_() for n, p in one.items()}
    weights = torch.randn_like(function(leaves))
    (expected,) = torch.autograd.grad((function(leaves) * weights).sum(), leaves["weight_hh_l0"])
    torch.testing.assert_close(torch.tensordot(weights, jacobian, 3), expected)


# torch.func.jvp itself uses torch.jit
@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
def test_forward_mode_runs_eagerly():
    layer = tt.LSTM(3, 4, dtype=torch.float64)
    x, v = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    _, product = torch.func.jvp(lambda x: layer(x)[0], (x,), (v,))
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x)
    torch.testing.assert_close(product, torch.tensordot(jacobian, v, 3))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, v)
        tangent = torch.autograd.forward_ad.unpack_dual(layer(dual)[0]).tangent
    torch.testing.assert_close(tangent, product)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", *sorted(CELLS)])
@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_autocast_to_bfloat16(name, engine):
    if hasattr(tt, name):
        layer = getattr(tt, name)(3, 8, 2)
    else:
        layer = any_layer(name, num_layers=2).float()
    layer.eval().engine = engine
    x = torch.randn(5, 2, 3)
    exact = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x, reset=torch.zeros(5, 2, dtype=torch.bool))[0]
        plain = layer(x, lengths=[5, 3])[0]
    torch.testing.assert_close(output.float(), exact, rtol=0.1, atol=0.05)
    torch.testing.assert_close(plain[:3].float(), exact[:3], rtol=0.1, atol=0.05)
    output.float().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32


def test_parametrised_weights_are_used():
    layer = tt.GRU(3, 4, engine="eager")
    nn.utils.parametrizations.orthogonal(layer, "weight_ih_l0")
    x = torch.randn(4, 2, 3)
    theirs = nn.GRU(3, 4)
    theirs.load_state_dict(
        {n: getattr(layer, n) for n in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")}
    )
    torch.testing.assert_close(layer(x)[0], theirs(x)[0])


def test_activation_checkpointing():
    layer = tt.LSTM(3, 4)
    x = torch.randn(5, 2, 3, requires_grad=True)
    expected = torch.autograd.grad(layer(x)[0].square().sum(), [x, *layer.parameters()])
    output = torch.utils.checkpoint.checkpoint(lambda x: layer(x)[0], x, use_reentrant=False)
    got = torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])
    torch.testing.assert_close(got, expected)


def test_several_threads_run_one_layer_at_once():
    from concurrent.futures import ThreadPoolExecutor

    layer = tt.Recurrent(CoupledLSTMCell, 3, 4, dtype=torch.float64)
    inputs = [torch.randn(20, 2, 3, dtype=torch.float64) for _ in range(16)]
    expected = [layer(x)[0] for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda x: layer(x)[0], inputs))
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


def test_steps_compile_whole():
    """torch.compile traces every cell's step as one graph; without the tests' type checks."""
    script = """
    import torch
    import throughtime as tt
    from throughtime.cells import *
    from throughtime.core.state import state_tensors
    cells = [
        ElmanCell(3, 4), ElmanCell(3, 4, lags=(1, 5)), LSTMCell(3, 4),
        LSTMCell(3, 4, peepholes=True), CoupledLSTMCell(3, 4), LSTM1997Cell(3, 4),
        ProjectedLSTMCell(3, 4, proj_size=2), GRUCell(3, 4), ChoGRUCell(3, 4),
        tt.wiring.StackedCell([LSTMCell(3, 4), GRUCell(4, 4)]),
    ]
    for cell in cells:
        torch._dynamo.reset()
        state = cell.initial_state(2, dtype=torch.float32, device=torch.device("cpu"))
        projected = cell.project(torch.randn(2, 3)).detach().requires_grad_()
        step = torch.compile(cell.step, fullgraph=True, backend="aot_eager")
        found = []
        for function in (cell.step, step):
            h, after = function(projected, state)
            gradients = torch.autograd.grad(h.square().sum(), projected)
            found.append([h, *state_tensors(after), *gradients])
        torch.testing.assert_close(*found)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), tt.LSTM(3, 4, engine="eager"))
    x = torch.randn(2000, 2, 3)  # would take minutes, were the loop traced
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], model(x)[0])
    print("compiled", len(cells))
    """
    code, said = warm.script(textwrap.dedent(script))
    assert code == 0, said
    assert "compiled 10" in said
