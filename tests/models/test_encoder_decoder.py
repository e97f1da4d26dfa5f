"""Encoder-decoders: padding changes nothing, and steps taken apart equal steps taken together."""

import pytest
import torch
from torch import Tensor, nn

import throughtime as tt
from throughtime.core.decoding import NextSymbol
from throughtime.core.registry import CELLS
from throughtime.core.state import state_tensors
from throughtime.memory import AdditiveAttention, DotAttention
from throughtime.models import EncoderDecoder, build_model
from throughtime.tasks.kinds import Likelihood, Pairs, Tokens, Vector, Vectors

KINDS = Pairs(Tokens(9), Tokens(7))
SPECS = [
    "gru:hidden=5",
    "encoder-decoder:cell=lstm,hidden=5,layers=2,reverse=true",
    "encoder-decoder:cell=lstm,hidden=5,bidirectional=true,context=every-step",
    "encoder-decoder:cell=rnn,hidden=5,context=every-step,tied=true,embedding=4",
    "attention:cell=gru,hidden=5",
    "attention:cell=lstm,hidden=5,layers=2,reverse=true,coverage=true,bidirectional=false",
    "attention:cell=gru,hidden=5,when=after,score=dot,tied=true",
    "attention:cell=lstm,hidden=5,when=after",
]
ATTEND = [spec for spec in SPECS if spec.startswith("attention")]


def built(spec: str, kinds: Pairs = KINDS) -> EncoderDecoder:
    model = build_model(spec, kinds, Likelihood())
    assert isinstance(model, EncoderDecoder)
    return model.double()


def symbols(time: int, batch: int, alphabet: int) -> Tensor:
    return torch.randint(alphabet, (time, batch))


@pytest.mark.parametrize("spec", SPECS)
def test_three_pairs_in_a_batch_give_what_each_gives_alone(spec: str) -> None:
    """Logits, losses and gradients; padding holds symbols of its own, which nothing may read."""
    model = built(spec)
    sizes, steps = torch.tensor([6, 1, 4]), [2, 5, 3]
    source, inputs, targets = symbols(6, 3, 9), symbols(5, 3, 7), symbols(5, 3, 7)
    for b, t in enumerate(steps):
        targets[t:, b] = -1
    state = model.encode(source, sizes)
    logits, _ = model(inputs, state)
    nll, _ = model.losses(inputs, targets, state)
    nll.sum().backward()
    together = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for b, (n, t) in enumerate(zip(sizes.tolist(), steps, strict=True)):
        own = model.encode(source[:n, b : b + 1])
        alone, _ = model(inputs[:t, b : b + 1], own)
        torch.testing.assert_close(logits[:t, b : b + 1], alone)
        losses, _ = model.losses(inputs[:t, b : b + 1], targets[:t, b : b + 1], own)
        torch.testing.assert_close(nll[:t, b : b + 1], losses)
        assert (nll[t:, b] == 0).all()
        losses.sum().backward()
    assert together.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, together[name], msg=name)


@pytest.mark.parametrize("spec", SPECS)
def test_what_padding_holds_changes_nothing(spec: str) -> None:
    model = built(spec)
    sizes, inputs = torch.tensor([6, 2]), symbols(4, 2, 7)
    source = symbols(6, 2, 9)
    other = source.clone()
    other[2:, 1] = (other[2:, 1] + 1) % 9
    first, second = (model(inputs, model.encode(s, sizes))[0] for s in (source, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("spec", SPECS)
def test_step_by_step_equals_all_steps_at_once(spec: str) -> None:
    model = built(spec)
    assert isinstance(model, NextSymbol)
    state, inputs = model.encode(symbols(6, 3, 9), torch.tensor([6, 1, 4])), symbols(5, 3, 7)
    logits, end = model(inputs, state)
    for t in range(5):
        step, state = model(inputs[t : t + 1], state)
        torch.testing.assert_close(step[0], logits[t])
    for got, expected in zip(state_tensors(state), state_tensors(end), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("spec", SPECS)
def test_selected_rows_go_on_as_their_own_sequences(spec: str) -> None:
    model = built(spec)
    _, state = model(symbols(2, 3, 7), model.encode(symbols(6, 3, 9), torch.tensor([6, 1, 4])))
    rows, inputs = torch.tensor([2, 0, 0, 1]), symbols(3, 3, 7)
    expected, _ = model(inputs, state)
    got, _ = model(inputs[:, rows], model.select(state, rows))
    torch.testing.assert_close(got, expected[:, rows])


@pytest.mark.parametrize("spec", SPECS)
def test_losses_are_the_cross_entropy_of_the_logits(spec: str) -> None:
    model = built(spec)
    state, inputs, targets = model.encode(symbols(6, 3, 9)), symbols(4, 3, 7), symbols(4, 3, 7)
    targets[3, 1] = -1
    logits, _ = model(inputs, state)
    nll, _ = model.losses(inputs, targets, state)
    for t, b in ((0, 0), (2, 1), (3, 2)):
        expected = logits[t, b].logsumexp(0) - logits[t, b, targets[t, b]]
        torch.testing.assert_close(nll[t, b], expected)
    assert nll[3, 1] == 0
    nothing, _ = model.losses(inputs, torch.full_like(targets, -1), state)
    assert not nothing.any()


@pytest.mark.parametrize("spec", ATTEND)
def test_the_alignment_is_a_distribution_over_the_source_alone(spec: str) -> None:
    model = built(spec)
    sizes = torch.tensor([6, 1, 4])
    state, inputs = model.encode(symbols(6, 3, 9), sizes), symbols(5, 3, 7)
    weights = model.alignment(inputs, state)
    assert weights.shape == (5, 3, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, 3).double())
    for b, n in enumerate(sizes.tolist()):
        assert (weights[:, b, n:] == 0).all()
        assert (weights[:, b, :n] > 0).all()
    _, later = model(inputs[:2], state)
    torch.testing.assert_close(model.alignment(inputs[2:], later), weights[2:])


def test_reverse_reads_each_source_from_its_own_end() -> None:
    torch.manual_seed(3)
    plain = built("encoder-decoder:cell=gru,hidden=5")
    reversing = built("encoder-decoder:cell=gru,hidden=5,reverse=true")
    reversing.load_state_dict(plain.state_dict())
    sizes, source, inputs = torch.tensor([4, 2]), symbols(4, 2, 9), symbols(3, 2, 7)
    turned = source.clone()
    turned[:, 0] = source[:, 0].flip(0)
    turned[:2, 1] = source[:2, 1].flip(0)
    got, _ = reversing(inputs, reversing.encode(source, sizes))
    expected, _ = plain(inputs, plain.encode(turned, sizes))
    torch.testing.assert_close(got, expected)


def test_positions_of_an_alignment_are_those_of_the_source_under_reversal() -> None:
    """The key of a position depends on the source from that position to its end alone."""
    model = built("attention:cell=gru,hidden=5,reverse=true,bidirectional=false,when=after")
    source = symbols(5, 1, 9)
    other = source.clone()
    other[0] = (other[0] + 1) % 9
    first, second = (model.encode(s).keys[0] for s in (source, other))
    torch.testing.assert_close(first[1:], second[1:])
    assert not torch.allclose(first[0], second[0])


def test_the_summary_of_both_directions_is_taken_at_their_own_ends() -> None:
    model = built("encoder-decoder:cell=gru,hidden=5,bidirectional=true,context=every-step")
    source, sizes = symbols(6, 2, 9), torch.tensor([6, 3])
    encoded = model.encoder(source, sizes)
    assert encoded.outputs is not None
    for b, n in enumerate(sizes.tolist()):
        expected = torch.cat([encoded.outputs[n - 1, b, :5], encoded.outputs[0, b, 5:]])
        torch.testing.assert_close(encoded.summary[b], expected)


@pytest.mark.parametrize("name", sorted({*CELLS} - {"latch-unit", "threshold"}))
def test_every_cell_encodes_and_decodes(name: str) -> None:
    source, sizes, inputs = symbols(4, 2, 9), torch.tensor([4, 2]), symbols(3, 2, 7)
    for spec in (f"{name}:hidden=4,engine=eager", f"attention:cell={name},hidden=4"):
        model = built(spec)
        nll, _ = model.losses(inputs, inputs, model.encode(source, sizes))
        nll.sum().backward()
        for read in (model.encoder.embedding, model.embedding, model.readout):
            assert isinstance(read, nn.Embedding | nn.Linear)
            assert read.weight.grad is not None, spec
            assert read.weight.grad.abs().sum() > 0, spec


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("context", ["initial", "every-step"])
def test_one_vector_becomes_a_sequence(layers: int, context: str) -> None:
    spec = f"encoder-decoder:cell=lstm,hidden=5,layers={layers},context={context}"
    model = built(spec, Pairs(Vector(3), Tokens(7)))
    source, inputs = torch.randn(2, 3).double(), symbols(4, 2, 7)
    state = model.encode(source)
    expected = (model.encoder.linear(source)).tanh().view(2, layers, 5).transpose(0, 1)
    torch.testing.assert_close(state.decoder.h, expected)
    assert not state.decoder.c.any()
    assert model(inputs, state)[0].shape == (4, 2, 7)


def test_a_sequence_of_vectors_is_a_source() -> None:
    model = built("attention:cell=gru,hidden=5", Pairs(Vectors(3), Tokens(7)))
    source, sizes, inputs = torch.randn(6, 2, 3).double(), torch.tensor([6, 2]), symbols(4, 2, 7)
    source[2:, 1] = torch.nan
    logits, _ = model(inputs, model.encode(source, sizes))
    alone, _ = model(inputs[:, 1:], model.encode(source[:2, 1:]))
    torch.testing.assert_close(logits[:, 1:], alone)


def test_dropout_is_drawn_in_training_alone() -> None:
    model = built("attention:cell=gru,hidden=5,dropout=0.5")
    source, inputs = symbols(4, 2, 9), symbols(3, 2, 7)
    first, second = (model(inputs, model.encode(source))[0] for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model(inputs, model.encode(source))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_tied_weights_are_one_parameter() -> None:
    model = built("attention:cell=gru,hidden=5,tied=true")
    assert model.readout.weight is model.embedding.weight


def test_a_user_joins_layers_of_their_own() -> None:
    attention = AdditiveAttention(6, 2 * 6, 3)
    encoder, decoder = tt.LSTM(4, 6, bidirectional=True), tt.LSTM(5 + 12, 6)
    model = EncoderDecoder(KINDS, encoder, decoder, context="attention", attention=attention)
    state = model.encode(symbols(4, 2, 9))
    assert model(symbols(3, 2, 7), state)[0].shape == (3, 2, 7)


def gru(width: int, hidden: int = 5, **options) -> nn.Module:
    return tt.GRU(width, hidden, **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: EncoderDecoder(KINDS, gru(4), gru(4, bidirectional=True)),
            "a bidirectional layer",
        ),
        (lambda: EncoderDecoder(KINDS, gru(4), gru(4, 6)), "the same cell, size and number"),
        (lambda: EncoderDecoder(KINDS, tt.LSTM(4, 5), gru(4)), "the same cell, size and number"),
        (lambda: EncoderDecoder(KINDS, gru(4), gru(4, num_layers=2)), "the same cell, size and"),
        (lambda: EncoderDecoder(KINDS, None, gru(4)), "encoder: got no layer"),
        (
            lambda: EncoderDecoder(Pairs(Vectors(3), Tokens(7)), gru(4), gru(4)),
            "got an input of 4, expected a layer for a source of Vectors",
        ),
        (
            lambda: EncoderDecoder(Pairs(Vector(3), Tokens(7)), None, gru(4), reverse=True),
            "one vector has no order",
        ),
        (
            lambda: EncoderDecoder(KINDS, gru(4), gru(5), context="every-step"),
            "expected an embedding and a context of 5",
        ),
        (
            lambda: EncoderDecoder(KINDS, gru(4), gru(9), context="attention"),
            "context='attention': got no attention",
        ),
        (
            lambda: EncoderDecoder(KINDS, gru(4), gru(4), attention=DotAttention(5, 5)),
            "context='initial': got an attention",
        ),
        (
            lambda: EncoderDecoder(
                KINDS, gru(4), gru(4), context="attention-after", attention=DotAttention(5, 4)
            ),
            "queries of 5 and a memory of 4, expected 5, the decoder's output, and 5",
        ),
        (lambda: EncoderDecoder(KINDS, gru(4), gru(4), dropout=1.0), "dropout: got 1.0"),
        (lambda: EncoderDecoder(KINDS, gru(4), gru(4), context="atention"), "Did you mean 'attent"),
        (lambda: built("attention:coverage=true,when=after"), "coverage: got attention after"),
        (lambda: built("attention:coverage=true,score=dot"), "coverage of model 'attention'"),
        (
            lambda: built("attention", Pairs(Vector(3), Tokens(7))),
            "expected a source with several positions",
        ),
        (
            lambda: build_model("attention", Tokens(3), Likelihood()),
            "expected pairs of a source and a target",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, words: str, unchecked: None) -> None:
    with pytest.raises(tt.errors.ConfigurationError, match=words):
        make()


def test_calls_that_do_not_fit_are_refused(unchecked: None) -> None:
    model = built("gru:hidden=5")
    with pytest.raises(tt.errors.StateError, match=r"Begin with state = model\.encode"):
        model(symbols(3, 2, 7))
    with pytest.raises(tt.errors.LengthsError, match="got 0 for sequence 1"):
        model.encode(symbols(3, 2, 9), torch.tensor([3, 0]))
    for source in (symbols(0, 2, 9), symbols(3, 2, 9)[0]):
        with pytest.raises(tt.errors.ShapeError, match="expected 2 axes, none empty"):
            model.encode(source)
    with pytest.raises(tt.errors.ConfigurationError, match="expected a model with attention"):
        model.alignment(symbols(3, 2, 7), model.encode(symbols(3, 2, 9)))
