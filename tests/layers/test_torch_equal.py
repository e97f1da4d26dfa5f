"""LSTM, GRU and RNN equal torch.nn's layers: weights, outputs, states, every gradient."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import throughtime as tt

pytestmark = pytest.mark.without_compiler

KINDS = ("LSTM", "GRU", "RNN")


def _options():
    for kind, layers, both, bias, projection, first in itertools.product(
        KINDS, (1, 2), (False, True), (False, True), (0, 3), (False, True)
    ):
        if projection and kind != "LSTM":
            continue
        kwargs = {
            "num_layers": layers,
            "bidirectional": both,
            "bias": bias,
            "batch_first": first,
        } | ({"proj_size": projection} if projection else {})
        yield pytest.param(kind, kwargs, id=f"{kind}-{'-'.join(map(str, kwargs.values()))}")


OPTIONS = list(_options())


def pair(kind, kwargs, **ours):
    torch.manual_seed(3)
    theirs = getattr(nn, kind)(4, 5, dtype=torch.float64, **kwargs)
    torch.manual_seed(3)
    layer = getattr(tt, kind)(4, 5, dtype=torch.float64, **kwargs, **ours)
    return theirs, layer


def state_for(kind, layer, batch):
    count = layer.num_layers * layer.num_directions
    h = torch.randn(count, batch, layer.output_size // layer.num_directions, dtype=torch.float64)
    c = torch.randn(count, batch, 5, dtype=torch.float64)
    return (h, c) if kind == "LSTM" else h


def everything(layer, x, hx, packing):
    """Outputs, states, and the gradients of a fixed weighting of them."""
    x = x.clone().requires_grad_()
    leaves = [h.clone().requires_grad_() for h in (hx if isinstance(hx, tuple) else (hx,))]
    hx = tuple(leaves) if isinstance(hx, tuple) else leaves[0]
    output, state = layer(packing(x), hx)
    data = output.data if isinstance(output, PackedSequence) else output
    results = [data, *(state if isinstance(state, tuple) else (state,))]
    generator = torch.Generator().manual_seed(0)
    loss = sum(
        (r * torch.randn(r.shape, generator=generator, dtype=torch.float64)).sum() for r in results
    )
    return [*results, *torch.autograd.grad(loss, [x, *leaves, *layer.parameters()])], output


@pytest.mark.parametrize(("kind", "kwargs"), OPTIONS)
@pytest.mark.parametrize("engine", ["eager", "vendor"])
def test_equal_to_torch(kind, kwargs, engine):
    theirs, ours = pair(kind, kwargs, engine=engine)
    first = kwargs["batch_first"]
    x = torch.randn((3, 7, 4) if first else (7, 3, 4), dtype=torch.float64)
    hx = state_for(kind, ours, 3)
    lengths = torch.tensor([2, 7, 5])

    def packed(x):
        return pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)

    for packing in (lambda x: x, packed):
        expected, their_output = everything(theirs, x, hx, packing)
        got, our_output = everything(ours, x, hx, packing)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
        assert type(our_output) is type(their_output)
        if isinstance(our_output, PackedSequence):
            for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
                assert torch.equal(getattr(our_output, field), getattr(their_output, field))


@pytest.mark.parametrize(("kind", "kwargs"), OPTIONS)
def test_state_dict_loads_strictly_both_ways_and_draws_alike(kind, kwargs):
    theirs, ours = pair(kind, kwargs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), "another draw from the same seed"
    other = getattr(nn, kind)(4, 5, dtype=torch.float64, **kwargs)
    ours.load_state_dict(other.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(3, 7, 4, dtype=torch.float64)
    torch.testing.assert_close(ours(x)[0], other(x)[0], rtol=1e-10, atol=1e-10)
    assert [len(w) for w in ours.all_weights] == [len(w) for w in theirs.all_weights]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [False, True])
def test_unbatched(kind, both):
    theirs, ours = pair(kind, {"bidirectional": both, "batch_first": True, "num_layers": 2})
    x = torch.randn(7, 4, dtype=torch.float64)
    count = 4 if both else 2
    h = torch.randn(count, 5, dtype=torch.float64)
    hx = (h, h + 1) if kind == "LSTM" else h
    expected, got = theirs(x, hx), ours(x, hx)
    torch.testing.assert_close(got[0], expected[0], rtol=1e-10, atol=1e-10)
    for a, b in zip(tuple(got[1]), tuple(expected[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_in_order_without_indices(kind):
    theirs, ours = pair(kind, {})
    packed = pack_sequence([torch.randn(n, 4, dtype=torch.float64) for n in (6, 4, 4, 1)])
    assert packed.sorted_indices is None
    expected, got = theirs(packed)[0], ours(packed)[0]
    assert got.sorted_indices is None
    torch.testing.assert_close(got.data, expected.data, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_draws_the_masks_that_torch_draws(kind):
    theirs, ours = pair(kind, {"num_layers": 3, "dropout": 0.4, "bidirectional": True})
    x = torch.randn(7, 3, 4, dtype=torch.float64)
    for mode in (True, False):
        theirs.train(mode)
        ours.train(mode)
        torch.manual_seed(1)
        expected = theirs(x)[0]
        torch.manual_seed(1)
        torch.testing.assert_close(ours(x)[0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_no_steps_is_refused_as_torch_refuses_it_and_no_sequences_are_served(kind):
    theirs, ours = pair(kind, {})
    nothing = torch.zeros(0, 2, 4, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="larger than 0"):
        theirs(nothing)
    with pytest.raises(tt.errors.ShapeError, match="no time steps"):
        ours(nothing)
    empty = torch.zeros(3, 0, 4, dtype=torch.float64)
    for engine in ("eager", "vendor"):
        ours.engine = engine
        assert ours(empty)[0].shape == theirs(empty)[0].shape
        for got, expected in zip(tuple(ours(empty)[1]), tuple(theirs(empty)[1]), strict=True):
            assert got.shape == expected.shape


def test_dropout_on_one_layer_warns_as_torch_does():
    with pytest.warns(UserWarning, match="acts between layers and num_layers is 1"):
        tt.GRU(3, 4, dropout=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_vendor_and_eager_agree_and_both_have_second_derivatives(kind):
    torch.manual_seed(0)
    layer = getattr(tt, kind)(3, 6)
    x = torch.randn(8, 2, 3, requires_grad=True)
    found = []
    for engine in ("eager", "vendor"):
        layer.engine = engine
        (first,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), list(layer.parameters()))
        found.append([first, *second])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)
