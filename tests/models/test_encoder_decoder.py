"""Encoder-decoders: padding changes nothing, and steps taken apart equal steps taken together."""

import pytest
import torch
from torch import Tensor, nn

import throughtime as tt
from throughtime.core.registry import CELLS
from throughtime.memory import AdditiveAttention, DotAttention
from throughtime.models import EncoderDecoder, build_model
from throughtime.tasks.kinds import Likelihood, Pairs, Tokens, Vector, Vectors
from throughtime.testing import EncoderDecoderConformance

KINDS = Pairs(Tokens(9), Tokens(7))
ATTEND = [
    "attention:cell=gru,hidden=5",
    "attention:cell=lstm,hidden=5,layers=2,reverse=true,coverage=true,bidirectional=false",
    "attention:cell=gru,hidden=5,when=after,score=dot,tied=true",
    "attention:cell=lstm,hidden=5,when=after",
]


def built(spec: str, kinds: Pairs = KINDS) -> EncoderDecoder:
    model = build_model(spec, kinds, Likelihood())
    assert isinstance(model, EncoderDecoder)
    return model.double()


def symbols(time: int, batch: int, alphabet: int) -> Tensor:
    return torch.randint(alphabet, (time, batch))


class Conformance(EncoderDecoderConformance):
    source_alphabet = 9
    spec: str

    def make_model(self) -> nn.Module:
        return built(self.spec)


class TestInitial(Conformance):
    spec = "gru:hidden=5"


class TestReversed(Conformance):
    spec = "encoder-decoder:cell=lstm,hidden=5,layers=2,reverse=true"


class TestEveryStep(Conformance):
    spec = "encoder-decoder:cell=lstm,hidden=5,bidirectional=true,context=every-step"


class TestTied(Conformance):
    spec = "encoder-decoder:cell=rnn,hidden=5,context=every-step,tied=true,embedding=4"


class TestAttention(Conformance):
    spec = ATTEND[0]


class TestCoverage(Conformance):
    spec = ATTEND[1]


class TestDotAfter(Conformance):
    spec = ATTEND[2]


class TestAdditiveAfter(Conformance):
    spec = ATTEND[3]


class Leaks(nn.Module):
    """A decoder whose source is its neighbour's too."""

    def __init__(self, model: EncoderDecoder, fault: str):
        super().__init__()
        self.model, self.fault, self.alphabet = model, fault, model.alphabet

    def encode(self, source: Tensor, lengths: Tensor | None = None):
        return self.model.encode(source, None if self.fault == "padding" else lengths)

    def forward(self, inputs: Tensor, state=None):
        if self.fault == "neighbours":
            rows = torch.zeros(inputs.shape[1], dtype=torch.int64)
            state = self.model.select(state, rows)
        logits, state = self.model(inputs, state)
        return (logits.flip(0) if self.fault == "future" else logits), state

    def losses(self, inputs: Tensor, targets: Tensor, state):
        nll, state = self.model.losses(inputs, targets, state)
        return (nll * 2 if self.fault == "units" else nll), state

    def select(self, state, rows: Tensor):
        return self.model.select(state, rows.sort().values if self.fault == "order" else rows)


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("padding", "test_padding_is_never_read"),
        ("neighbours", "test_pairs_in_a_batch_give_what_each_gives_alone"),
        ("future", "test_no_symbol_is_read_before_its_step"),
        ("units", "test_losses_are_those_of_the_logits"),
        ("order", "test_selected_rows_go_on_by_themselves"),
        ("order", "test_scores_of_a_beam_are_log_probabilities"),
        ("units", "test_scores_of_a_beam_are_log_probabilities"),
    ],
)
def test_each_rule_is_broken_by_a_model_that_does(fault: str, rule: str) -> None:
    class Suite(Conformance):
        spec = "gru:hidden=5"

        def make_model(self) -> nn.Module:
            return Leaks(built(self.spec), fault)

    with pytest.raises(AssertionError):
        getattr(Suite(), rule)()


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
