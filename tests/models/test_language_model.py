"""Language models: embeddings, tied weights, dropout, the adaptive softmax, states of rows."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import throughtime as tt
from throughtime import Sampling, generate
from throughtime.core.errors import ConfigurationError
from throughtime.models import LanguageModel, build_model
from throughtime.tasks.kinds import Likelihood, Tokens
from throughtime.testing import NextSymbolConformance

KINDS = Tokens(7), Likelihood()
SYMBOLS = torch.tensor([[0, 6], [3, 2], [5, 5], [1, 0]])
TARGETS = torch.tensor([[3, 2], [5, -1], [1, 0], [-1, 4]])


def model_of(options: str, seed: int = 0) -> LanguageModel:
    torch.manual_seed(seed)
    model = build_model(f"language-model:{options}", *KINDS)
    assert isinstance(model, LanguageModel)
    return model.double().eval()


class Conformance(NextSymbolConformance):
    spec: str

    def make_model(self) -> nn.Module:
        return model_of(self.spec)

    def start(self, model: nn.Module) -> None:
        return None


class TestOneHot(Conformance):
    spec = "cell=lstm,hidden=5,layers=2"


class TestTied(Conformance):
    spec = "cell=gru,hidden=5,embedding=5,tied=true,dropout=0.5"


class TestAdaptive(Conformance):
    spec = "cell=rnn,hidden=16,embedding=3,cutoffs=2/4"


class TestManyLags(Conformance):
    spec = "cell=skip-rnn,lag=3,hidden=5,embedding=4"


def test_an_embedding_equals_torchs_layers() -> None:
    model = model_of("cell=lstm,hidden=6,embedding=4")
    reference = nn.LSTM(4, 6).double()
    reference.load_state_dict(model.recurrent.state_dict())
    assert model.embedding is not None
    assert model.embedding.weight.abs().max() <= 0.1
    h, _ = reference(model.embedding.weight[SYMBOLS])
    logits, _ = model(SYMBOLS)
    torch.testing.assert_close(logits, h @ model.readout.weight.T + model.readout.bias)


def test_one_hot_symbols_are_an_embedding_of_the_input_weights() -> None:
    """The model of W_x is that of the embedding E where W_x E is its input matrix."""
    model = model_of("cell=gru,hidden=6,embedding=4")
    one_hot = model_of("cell=gru,hidden=6", seed=1)
    state = model.state_dict()
    state["recurrent.weight_ih_l0"] = state["recurrent.weight_ih_l0"] @ state["embedding.weight"].T
    del state["embedding.weight"]
    one_hot.load_state_dict(state)
    torch.testing.assert_close(one_hot(SYMBOLS)[0], model(SYMBOLS)[0])


def test_tied_weights_are_one_parameter_with_both_gradients() -> None:
    model = model_of("cell=gru,hidden=4,embedding=4,tied=true")
    assert model.embedding is not None
    assert model.readout.weight is model.embedding.weight
    untied = model_of("cell=gru,hidden=4,embedding=4", seed=1)
    untied.load_state_dict(model.state_dict())
    for each in (model, untied):
        each.losses(SYMBOLS, TARGETS)[0].sum().backward()
    expected = untied.embedding.weight.grad + untied.readout.weight.grad
    torch.testing.assert_close(model.embedding.weight.grad, expected)
    names = [name for name, _ in model.named_parameters()]
    assert "embedding.weight" in names
    assert "readout.weight" not in names


@pytest.mark.parametrize("options", ["cell=lstm,hidden=5", "embedding=3,cutoffs=2/4"])
def test_losses_are_those_of_the_logits(options: str) -> None:
    model = model_of(options)
    logits, after = model(SYMBOLS)
    expected = torch.zeros(4, 2).double()
    for t in range(4):
        for b in range(2):
            if TARGETS[t, b] >= 0:
                expected[t, b] = -logits[t, b].log_softmax(-1)[TARGETS[t, b]]
    losses, state = model.losses(SYMBOLS, TARGETS)
    torch.testing.assert_close(losses, expected)
    for found, same in zip(state, after, strict=True):
        torch.testing.assert_close(found, same)
    none = model.losses(SYMBOLS, torch.full_like(TARGETS, -1), state)[0]
    assert torch.equal(none, torch.zeros(4, 2).double())


def test_an_adaptive_softmax_is_a_distribution_and_trains() -> None:
    model = model_of("embedding=3,cutoffs=2/4")
    assert isinstance(model.readout, nn.AdaptiveLogSoftmaxWithLoss)
    torch.testing.assert_close(model(SYMBOLS)[0].exp().sum(-1), torch.ones(4, 2).double())
    model.losses(SYMBOLS, TARGETS)[0].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_dropout_acts_in_its_usual_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """On embedded symbols, between levels and on outputs; not in evaluation."""
    shapes: list[tuple[int, ...]] = []
    real = F.dropout

    def spied(x, p=0.5, training=True, inplace=False):
        if training and p > 0:
            assert p == 0.25
            shapes.append(tuple(x.shape))
        return real(x, p, training, inplace)

    monkeypatch.setattr(F, "dropout", spied)
    model = model_of("cell=gru,hidden=6,layers=2,embedding=4,dropout=0.25,engine=eager")
    model(SYMBOLS)
    assert shapes == []
    model.train()
    model(SYMBOLS)
    assert shapes == [(4, 2, 4), (4, 2, 6), (4, 2, 6)]
    shapes.clear()
    model_of("cell=gru,hidden=6,dropout=0.25").train()(SYMBOLS)  # one-hot symbols are not dropped
    assert shapes == [(4, 2, 6)]


def test_the_mean_over_dropout_masks_is_the_output_without() -> None:
    model = model_of("cell=rnn,hidden=3,dropout=0.5").train()
    expected = model.eval()(SYMBOLS)[0]
    torch.manual_seed(0)
    model.train()
    with torch.no_grad():
        drawn = torch.stack([model(SYMBOLS)[0] for _ in range(2000)])
    error = drawn.std(0) / math.sqrt(len(drawn))
    assert bool(((drawn.mean(0) - expected).abs() < 5 * error).all())


@pytest.mark.parametrize(
    "spec", ["cell=lstm,layers=2", "cell=urnn", "cell=gru,engine=eager", "cell=gru,cutoffs=3"]
)
@torch.no_grad()
def test_generation_reads_embeddings(spec: str) -> None:
    model = model_of(f"{spec},hidden=8,embedding=4")
    found = generate(model, SYMBOLS, 6, Sampling(0.0))
    for row in range(2):
        text = SYMBOLS[:, row].tolist()
        for symbol in found[:, row].tolist():
            assert symbol == int(model(torch.tensor(text)[:, None])[0][-1, 0].argmax())
            text.append(symbol)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("tied=true", "got no embedding, expected an embedding"),
        ("hidden=8,embedding=4,tied=true", "got an embedding of 4 and outputs of 8.*Make.*8 wide"),
        ("hidden=4,embedding=4,tied=true,cutoffs=2", "got an adaptive softmax"),
        ("cutoffs=4/2", "got 4, 2, expected whole numbers that rise .* below 7"),
        ("cutoffs=7", "got 7, expected whole numbers that rise"),
        ("hidden=8,cutoffs=2/4", "got 2 for outputs of width 8, expected a width of at least 16"),
        ("cutoffs=2;3", "got '2;3', expected whole numbers with /"),
        ("embedding=-1", "embedding: got -1"),
        ("dropout=1.5", "dropout: got 1.5, expected 0 to 1"),
        ("bidirectional=true", "got a bidirectional layer"),
    ],
)
def test_options_that_contradict_each_other(options: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        build_model(f"language-model:{options}", *KINDS)


def test_a_model_of_ones_own() -> None:
    model = LanguageModel(tt.GRU(4, 4), 9, tied=True, dropout=0.1)
    assert model(torch.tensor([[8]]))[0].shape == (1, 1, 9)
