"""Where a model is recurrent: cells that it steps itself, layers in chunks, registered classes."""

import contextlib
import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt
from throughtime import errors
from throughtime.engines import unroll
from throughtime.foreign.sites import find_recurrent, recurrent_layers, run_by, site_of
from throughtime.instruments import gradient_flow, record

KINDS = ["LSTM", "GRU", "RNN", "RNN-relu"]


def cell_and_layer(kind, input_size=3, hidden_size=5, **options):
    """A cell of torch and a layer on the same weights."""
    kind, _, nonlinearity = kind.partition("-")
    if nonlinearity:
        options["nonlinearity"] = nonlinearity
    cell = getattr(nn, f"{kind}Cell")(input_size, hidden_size, dtype=torch.float64, **options)
    layer = getattr(nn, kind)(input_size, hidden_size, dtype=torch.float64, **options)
    layer.load_state_dict({f"{name}_l0": p for name, p in cell.state_dict().items()})
    return cell, layer


def h_of(state):
    return state[0] if isinstance(state, tuple) else state


def loop(cell, x, state=None, carry=lambda state, t: state):
    """What users write."""
    outputs = []
    for t, x_t in enumerate(x):
        state = cell(x_t, carry(state, t))
        outputs.append(h_of(state))
    return torch.stack(outputs)


def assert_same_flow(ours, theirs):
    torch.testing.assert_close(ours.norm, theirs.norm)
    torch.testing.assert_close(ours.contribution, theirs.contribution)
    torch.testing.assert_close(ours.per_unit, theirs.per_unit)
    torch.testing.assert_close(ours.answer, theirs.answer, rtol=1e-7, atol=1e-12)
    assert ours.per_gate.keys() == theirs.per_gate.keys()
    assert ours.per_gate
    for name, gate in ours.per_gate.items():
        torch.testing.assert_close(gate, theirs.per_gate[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_a_loop_over_a_cell_equals_the_layer(kind, bias, batched):
    cell, layer = cell_and_layer(kind, bias=bias)
    x = torch.randn(7, 4, 3, dtype=torch.float64) if batched else torch.randn(7, 3).double()
    weights = torch.randn(7, 4, 5, dtype=torch.float64)[:, : 4 if batched else 1]

    def cell_loss():
        return (loop(cell, x) * weights.squeeze(1)).sum()

    def layer_loss():
        return (layer(x)[0] * weights.squeeze(1)).sum()

    ours, theirs = gradient_flow(cell, cell_loss), gradient_flow(layer, layer_loss)
    assert_same_flow(ours, theirs)
    assert ours.calls == (1,) * 7
    assert ours.links == ("fresh", *("connected",) * 6)
    assert (theirs.calls, theirs.links) == ((7,), ("fresh",))
    ours, theirs = record(cell, cell_loss), record(layer, layer_loss)
    torch.testing.assert_close(ours.states, theirs.states)
    torch.testing.assert_close(ours.outputs, theirs.outputs)
    torch.testing.assert_close(ours.inputs, theirs.inputs)
    torch.testing.assert_close(ours.initial, theirs.initial)
    assert ours.resets is None
    assert ours.links == ("fresh", *("connected",) * 6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_replica_of_a_cell_returns_is_what_the_cell_returns(kind):
    cell, _ = cell_and_layer(kind)
    state = torch.randn(4, 5, dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64)
    states = [None, (state, 2 * state) if kind == "LSTM" else state]
    for given in states:
        expected = cell(x, given)
        with run_by(cell, lambda request, place: unroll(request)):
            found = cell(input=x, hx=given)
        assert type(found) is type(expected)
        torch.testing.assert_close(found, expected)
    with run_by(cell, lambda request, place: unroll(request)):
        given = (state[0], state[1]) if kind == "LSTM" else state[0]
        assert h_of(cell(x[0], given)).shape == (5,)


CHUNKED = ["LSTM", "GRU", "RNN"]


def in_chunks(layer, x, carry, sizes=(3, 4, 1)):
    state, outputs = None, []
    for chunk in x.split(sizes):
        output, state = layer(chunk, carry(state))
        outputs.append(output)
    return torch.cat(outputs)


def detached(state):
    if state is None:
        return None
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


@pytest.mark.parametrize("kind", CHUNKED)
@pytest.mark.parametrize("ours", [False, True])
def test_chunks_with_the_state_carried_equal_the_single_call(kind, ours):
    options = {"engine": "eager"} if ours else {}
    layer = getattr(tt if ours else nn, kind)(3, 5, dtype=torch.float64, **options)
    x = torch.randn(8, 2, 3, dtype=torch.float64)
    weights = torch.randn(8, 2, 5, dtype=torch.float64)

    def chunked():
        return (in_chunks(layer, x, lambda state: state) * weights).sum()

    flow = gradient_flow(layer, chunked)
    whole = gradient_flow(layer, lambda: (layer(x)[0] * weights).sum())
    assert_same_flow(flow, whole)
    assert (flow.calls, flow.links) == ((3, 4, 1), ("fresh", "connected", "connected"))
    recording, single = record(layer, chunked), record(layer, lambda: layer(x)[0].sum())
    torch.testing.assert_close(recording.states, single.states)
    torch.testing.assert_close(recording.outputs, single.outputs)
    assert recording.resets is None


@pytest.mark.parametrize("kind", CHUNKED)
def test_a_detached_state_ends_the_gradient_and_keeps_the_values(kind):
    layer = getattr(nn, kind)(3, 5, dtype=torch.float64)
    x = torch.randn(8, 2, 3, dtype=torch.float64)

    def loss():
        return in_chunks(layer, x, detached)[-1].sum()

    flow = gradient_flow(layer, loss)
    assert flow.links == ("fresh", "detached", "detached")
    assert not flow.norm[:7].any()
    assert not flow.contribution[:7].any()
    assert flow.norm[7] > 0
    recording = record(layer, loss)
    assert recording.resets is None
    with torch.no_grad():
        torch.testing.assert_close(recording.outputs, layer(x)[0])


@pytest.mark.parametrize("kind", CHUNKED)
def test_a_dropped_state_is_a_reset(kind):
    layer = getattr(nn, kind)(3, 5, dtype=torch.float64)
    x = torch.randn(8, 2, 3, dtype=torch.float64)

    def loss():
        return in_chunks(layer, x, lambda state: None)[-1].sum()

    flow, recording = gradient_flow(layer, loss), record(layer, loss)
    assert flow.links == recording.links == ("fresh",) * 3
    assert not flow.norm[:7].any()
    assert recording.resets is not None
    assert recording.resets.any(1).nonzero().flatten().tolist() == [3, 7]
    # the recording is that of one run with those resets
    ours = getattr(tt, kind)(3, 5, dtype=torch.float64, engine="eager")
    ours.load_state_dict(layer.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(recording.outputs, ours(x, reset=recording.resets)[0])


def test_a_cell_whose_state_is_detached_or_dropped_on_the_way():
    cell, _ = cell_and_layer("LSTM")
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    for change, link in ((detached, "detached"), (lambda state: None, "fresh")):

        def loss(change=change):
            return loop(cell, x, carry=lambda s, t: change(s) if t == 4 else s)[-1].sum()

        flow = gradient_flow(cell, loss)
        assert flow.links == ("fresh", *("connected",) * 3, link, "connected")
        assert not flow.norm[:4].any()
        assert (flow.norm[4:] > 0).all()
        resets = record(cell, loss).resets
        assert (resets is None) == (link == "detached")
        assert resets is None or resets[:, 0].nonzero().flatten().tolist() == [4]


class Stack(nn.Module):
    def __init__(self, kind):
        super().__init__()
        options = {"dtype": torch.float64}
        self.cells = nn.ModuleList(
            getattr(nn, f"{kind}Cell")(width, 5, **options) for width in (3, 5, 5)
        )

    def forward(self, x):
        states = [None] * 3
        for x_t in x:
            for k, cell in enumerate(self.cells):
                states[k] = cell(x_t, states[k])
                x_t = h_of(states[k])
        return x_t


@pytest.mark.parametrize("kind", CHUNKED)
def test_a_list_of_cells_is_a_layer_for_each(kind):
    model = Stack(kind)
    layer = getattr(nn, kind)(3, 5, 3, dtype=torch.float64)
    layer.load_state_dict(
        {f"{n}_l{k}": p for k, cell in enumerate(model.cells) for n, p in cell.named_parameters()}
    )
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    assert list(recurrent_layers(model)) == ["cells.0", "cells.1", "cells.2"]
    with pytest.raises(errors.ConfigurationError, match=r"3 recurrent layers: cells\.0"):
        gradient_flow(model, lambda: model(x).sum())
    for k in range(3):
        flow = gradient_flow(model, lambda: model(x).sum(), layer=f"cells.{k}")
        whole = gradient_flow(layer, lambda: layer(x)[0][-1].sum(), level=k)
        assert flow.layer == f"cells.{k}"
        torch.testing.assert_close(flow.norm, whole.norm)
        torch.testing.assert_close(flow.contribution, whole.contribution)
    with pytest.raises(errors.ConfigurationError, match="level"):
        gradient_flow(model, lambda: model(x).sum(), layer="cells.0", level=1)


READINGS = {
    "last": (lambda layer, x: layer(x)[0][-1], [5]),
    "h_n": (lambda layer, x: h_of(layer(x)[1])[-1], [5]),
    "per step": (lambda layer, x: layer(x)[0], [0, 1, 2, 3, 4, 5]),
    "two": (lambda layer, x: layer(x)[0][[1, 4]], [1, 4]),
    "chunked": (lambda layer, x: in_chunks(layer, x, lambda s: s, (2, 4))[1:3], [1, 2]),
    "chunked h_n": (lambda layer, x: chunk_ends(layer, x), [1, 5]),
    "detached": (lambda layer, x: in_chunks(layer, x, detached, (2, 4))[[1, 5]], [1, 5]),
}


def chunk_ends(layer, x):
    _, first = layer(x[:2])
    _, second = layer(x[2:], first)
    return torch.stack([h_of(first)[-1], h_of(second)[-1]])


@pytest.mark.parametrize("kind", CHUNKED)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_answer_is_marked_at_the_steps_that_the_loss_reads(kind, reading, layers):
    layer = getattr(nn, kind)(3, 5, layers)
    x = torch.randn(6, 3, 3)
    read, steps = READINGS[reading]
    flow = gradient_flow(layer, lambda: read(layer, x).square().sum())
    assert flow.answer.shape == (6, 3)
    assert flow.answer.bool().all(1).nonzero().flatten().tolist() == steps
    assert int(flow.answer.count_nonzero()) == 3 * len(steps)


@pytest.mark.parametrize("kind", CHUNKED)
def test_the_answer_of_packed_sequences_is_at_their_ends(kind):
    layer = getattr(nn, kind)(3, 5)
    lengths = torch.tensor([2, 6, 3])

    def loss():
        packed = pack_padded_sequence(torch.randn(6, 3, 3), lengths, enforce_sorted=False)
        return h_of(layer(packed)[1])[-1].square().sum()

    answer = gradient_flow(layer, loss).answer
    assert answer.nonzero().tolist() == [[1, 0], [2, 2], [5, 1]]


@pytest.mark.parametrize("kind", CHUNKED)
def test_the_answer_of_a_stepped_cell_is_exact(kind):
    cell, _ = cell_and_layer(kind)
    x = torch.randn(6, 2, 3)
    flow = gradient_flow(cell.float(), lambda: loop(cell, x)[[0, 3]].square().sum())
    marked = flow.answer.amax(1)
    assert (marked[[0, 3]] > 0.01 * marked.max()).all()
    assert not flow.answer[[1, 2, 4, 5]].any()


def test_modules_are_as_they_were_after_an_exception_or_a_hook():
    for module in (nn.LSTMCell(3, 5), nn.LSTM(3, 5)):
        calls = []
        handle = module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        before = {k: copy.copy(v) for k, v in vars(module).items()}

        def fail(module=module):
            module(torch.zeros(2, 3))
            raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            gradient_flow(module, fail)
        assert calls == [1]
        assert vars(module).keys() == before.keys()
        assert "forward" not in vars(module)
        handle.remove()
        module(torch.zeros(2, 3))
        assert calls == [1]


def test_hooks_of_a_cell_run_once_a_step_and_their_change_is_seen():
    cell, layer = cell_and_layer("GRU")
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    cell.register_forward_pre_hook(lambda _, given: (2 * given[0], *given[1:]))
    torch.testing.assert_close(
        record(cell, lambda: loop(cell, x).sum()).outputs,
        record(layer, lambda: layer(2 * x)[0].sum()).outputs,
    )


@pytest.mark.parametrize("kind", CHUNKED)
def test_pruned_and_parametrised_cells_are_run_with_what_they_compute_with(kind):
    cell, layer = cell_and_layer(kind)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    prune.l1_unstructured(cell, "weight_hh", 0.4)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(cell.weight_hh)
    expected = gradient_flow(layer, lambda: layer(x)[0][-1].sum())
    assert_same_flow(gradient_flow(cell, lambda: loop(cell, x)[-1].sum()), expected)

    class Half(nn.Module):
        def forward(self, weight):
            return weight / 2

    cell, layer = cell_and_layer(kind)
    parametrize.register_parametrization(cell, "weight_hh", Half())
    with torch.no_grad():
        layer.weight_hh_l0.div_(2)
    expected = gradient_flow(layer, lambda: layer(x)[0][-1].sum())
    assert_same_flow(gradient_flow(cell, lambda: loop(cell, x)[-1].sum()), expected)


def test_frozen_cells_are_measured_as_if_they_were_not():
    cell, layer = cell_and_layer("LSTM")
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    cell.requires_grad_(False)
    assert_same_flow(
        gradient_flow(cell, lambda: loop(cell, x)[-1].sum()),
        gradient_flow(layer, lambda: layer(x)[0][-1].sum()),
    )
    assert not any(p.requires_grad for p in cell.parameters())


def test_a_cell_with_a_forward_of_its_own_is_refused():
    class Scaled(nn.GRUCell):
        def forward(self, x, h=None):
            return super().forward(100 * x, h)

    with pytest.raises(errors.ConfigurationError, match=r"(?s)own.*register\(Scaled"):
        site_of(Scaled(3, 5))


def test_errors_name_what_looks_recurrent():
    class TimeMixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight_hh = nn.Parameter(torch.zeros(2, 2))

    class SeqLSTM(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = TimeMixer()

    with pytest.raises(
        errors.ConfigurationError, match=r"(?s)TimeMixer \(mix\).*register\(TimeMixer"
    ):
        find_recurrent(SeqLSTM())
    with pytest.raises(errors.ConfigurationError, match=r"(?s)got TimeMixer.*register\(TimeMixer"):
        find_recurrent(SeqLSTM(), "mix")
    with pytest.raises(errors.ConfigurationError, match=r"(?s)the model\).*register\(TimeMixer"):
        find_recurrent(TimeMixer())
    with pytest.raises(errors.UnknownNameError):
        find_recurrent(SeqLSTM(), "mixer")
    with pytest.raises(errors.ConfigurationError, match=r"0 recurrent layers, expected one\. It"):
        find_recurrent(nn.Sequential(nn.Linear(2, 2)))
