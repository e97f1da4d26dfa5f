"""Beam search equals enumeration, the greedy choice at width 1, and itself in another batch."""

import itertools
import math

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from throughtime import Sampling, generate
from throughtime.core.errors import ConfigurationError, ThroughtimeError
from throughtime.core.registry import CELLS
from throughtime.models import Beam, EncoderDecoder, LanguageModel, beam_search, build_model
from throughtime.tasks.kinds import Likelihood, Pairs, Tokens

END = 1


def model_of(spec: str, alphabet: int = 4, seed: int = 0, scale: float = 6.0) -> LanguageModel:
    torch.manual_seed(seed)
    model = build_model(spec, Tokens(alphabet), Likelihood())
    assert isinstance(model, LanguageModel)
    with torch.no_grad():
        model.readout.weight.mul_(scale)
    return model.eval().double()


@torch.no_grad()
def log_prob(model, prompt, text) -> float:
    """The sum over symbols, from the model's answers to the whole text."""
    whole = torch.tensor([*prompt, *text])
    logits, _ = model(whole[:-1, None])
    logs = logits[len(prompt) - 1 :, 0].log_softmax(-1)
    return float(logs.gather(1, whole[len(prompt) :, None]).sum())


def all_texts(alphabet: int, steps: int):
    """Every sequence that ends, or that has all steps without an end."""
    others = [v for v in range(alphabet) if v != END]
    for length in range(steps):
        for text in itertools.product(others, repeat=length):
            yield (*text, END)
    yield from itertools.product(others, repeat=steps)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_of_all_sequences_is_an_exhaustive_search(seed, penalty) -> None:
    model, prompt = model_of("gru:hidden=5,engine=eager", seed=seed), [0, 2]
    (found,) = beam_search(
        model, torch.tensor(prompt)[:, None], 5, Beam(4**5, length_penalty=penalty), end=END
    )
    expected = {text: log_prob(model, prompt, text) for text in all_texts(4, 5)}
    assert {one.symbols for one in found} == set(expected)
    best = max(expected, key=lambda text: expected[text] / len(text) ** penalty)
    assert found[0].symbols == best
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    # all ways to go on: their probabilities sum up to 1
    assert math.fsum(math.exp(one.log_prob) for one in found) == pytest.approx(1, abs=1e-12)


def decoder_of(spec: str, alphabet: int = 4, scale: float = 6.0) -> EncoderDecoder:
    torch.manual_seed(0)
    model = build_model(spec, Pairs(Tokens(5), Tokens(alphabet)), Likelihood())
    assert isinstance(model, EncoderDecoder)
    with torch.no_grad():
        model.readout.weight.mul_(scale)
    return model.eval().double()


SOURCES = torch.arange(18).view(6, 3) * 7 % 5
LENGTHS, FIRST = torch.tensor([6, 1, 4]), torch.zeros(1, 3, dtype=torch.int64)


@torch.no_grad()
def decoder_log_probs(model: EncoderDecoder, row: int, texts) -> list[float]:
    """The sums over the symbols of targets, for one source without its neighbours."""
    source = SOURCES[: LENGTHS[row], row : row + 1].repeat(1, len(texts))
    whole = pad_sequence([torch.tensor((0, *text)) for text in texts], padding_value=-1)
    state = model.encode(source, LENGTHS[row].repeat(len(texts)))
    logits, _ = model(whole[:-1].clamp(min=0), state)
    logs = logits.log_softmax(-1).gather(-1, whole[1:, :, None].clamp(min=0))[..., 0]
    return torch.where(whole[1:] >= 0, logs, 0).sum(0).tolist()


@pytest.mark.parametrize(
    "spec", ["gru:hidden=5", "attention:cell=lstm,hidden=5", "attention:when=after,hidden=5"]
)
def test_a_beam_of_all_targets_is_an_exhaustive_search_for_each_source(spec) -> None:
    """Three sources of several lengths in one batch, each as alone."""
    model, beam = decoder_of(spec), Beam(4**5, length_penalty=0.7)
    state = model.encode(SOURCES, LENGTHS)
    for row, found in enumerate(beam_search(model, FIRST, 5, beam, state=state, end=END)):
        texts = [*all_texts(4, 5)]
        expected = dict(zip(texts, decoder_log_probs(model, row, texts), strict=True))
        assert {one.symbols for one in found} == set(expected)
        assert all(one.log_prob == pytest.approx(expected[one.symbols]) for one in found)
        assert found[0].symbols == max(expected, key=lambda t: expected[t] / len(t) ** 0.7)
        assert math.fsum(math.exp(one.log_prob) for one in found) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("kind", ["encoder-decoder", "attention"])
def test_a_claimed_score_of_a_decoder_is_the_log_probability(kind, cell) -> None:
    model = decoder_of(f"{kind}:cell={cell},hidden=8,embedding=4,engine=eager", scale=3.0)
    found = beam_search(model, FIRST, 5, Beam(4), state=model.encode(SOURCES, LENGTHS), end=END)
    for row, hypotheses in enumerate(found):
        assert len({one.symbols for one in hypotheses}) == 4
        scores = [one.score for one in hypotheses]
        assert scores == sorted(scores, reverse=True)
        expected = decoder_log_probs(model, row, [one.symbols for one in hypotheses])
        assert [one.log_prob for one in hypotheses] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_a_claimed_score_is_the_log_probability(cell) -> None:
    """Of every cell: beams take the state of their parents."""
    model, prompt = model_of(f"{cell}:hidden=8,engine=eager", alphabet=6, scale=3.0), [0, 3]
    (found,) = beam_search(model, torch.tensor(prompt)[:, None], 7, Beam(5), end=END)
    assert len(found) == 5
    for one in found:
        assert one.log_prob == pytest.approx(log_prob(model, prompt, one.symbols), abs=1e-5)
        assert one.ended == (one.symbols[-1] == END)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_width_1_is_the_greedy_choice(seed, penalty) -> None:
    model = model_of("lstm:hidden=5,engine=eager", alphabet=5, seed=seed)
    prompt = torch.tensor([[0, 4, 2]])
    greedy = generate(model, prompt, 9, Sampling(0.0), end=END)
    for b, (one,) in enumerate(beam_search(model, prompt, 9, Beam(1, penalty), end=END)):
        text = list(one.symbols)
        assert text + [END] * (len(greedy) - len(text)) == greedy[:, b].tolist()


def test_prompts_in_a_batch_give_what_they_give_alone() -> None:
    model = model_of("gru:hidden=6,layers=2,engine=eager", alphabet=7)
    prompts = [[0, 3, 2], [4], [5, 6]]
    padded = torch.tensor([[0, 4, 5], [3, 1, 6], [2, 1, 1]])
    lengths = torch.tensor([3, 1, 2])
    together = beam_search(model, padded, 6, Beam(3, 0.5), end=END, lengths=lengths)
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = beam_search(model, torch.tensor(prompt)[:, None], 6, Beam(3, 0.5), end=END)
        assert [one.symbols for one in found] == [one.symbols for one in alone]
        assert [one.score for one in found] == pytest.approx([one.score for one in alone])


def test_an_end_outside_the_width_is_not_taken() -> None:
    """Of the first step, the end is the third likeliest: a beam of 2 must go on."""
    model = model_of("rnn:hidden=4,engine=eager")
    with torch.no_grad():
        model.readout.weight.zero_()
        model.readout.bias.copy_(torch.tensor([0.4, 0.2, 0.3, 0.1]).log())
    (found,) = beam_search(model, torch.tensor([[0]]), 3, Beam(2), end=END)
    assert [one.symbols for one in found] == [(0, 0, 0), (0, 0, 2)]
    assert not any(one.ended for one in found)
    assert found[0].log_prob == pytest.approx(3 * math.log(0.4))
    (found,) = beam_search(model, torch.tensor([[0]]), 3, Beam(3), end=END)
    assert found[0].symbols == (END,)


def test_a_long_sequence_wins_by_its_mean() -> None:
    model = model_of("rnn:hidden=4,engine=eager")
    with torch.no_grad():
        model.readout.weight.zero_()
        model.readout.bias.copy_(torch.tensor([0.9, 0.09, 0.005, 0.005]).log())
    (short,) = beam_search(model, torch.tensor([[0]]), 30, Beam(4), end=END)
    assert short[0].symbols == (END,)
    (long,) = beam_search(model, torch.tensor([[0]]), 30, Beam(4, 1.0), end=END)
    assert len(long[0].symbols) == 30


@pytest.mark.parametrize("change", [{"width": 0}, {"width": True}, {"length_penalty": -1.0}])
def test_beams_that_cannot_be(change) -> None:
    with pytest.raises(ConfigurationError):
        Beam(**change)


def test_what_cannot_be_searched() -> None:
    model = model_of("rnn:hidden=4,engine=eager")
    with pytest.raises(ConfigurationError, match="steps"):
        beam_search(model, torch.tensor([[0]]), 0, end=END)
    with pytest.raises(ConfigurationError, match="end"):
        beam_search(model, torch.tensor([[0]]), 3, end=4)
    with torch.no_grad():
        model.readout.bias[0] = math.nan
    with pytest.raises(ThroughtimeError, match="logits"):
        beam_search(model, torch.tensor([[0]]), 3, end=END)
