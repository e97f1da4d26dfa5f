"""Recurrent models of frames: enumeration, causality, padding, draws, and what is refused."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from throughtime import GRU, LSTM
from throughtime.core.errors import ConfigurationError, DataError, LengthsError, ShapeError
from throughtime.models import (
    BernoulliOutput,
    FrameRNN,
    GaussianOutput,
    NADEOutput,
    PenOutput,
    build_model,
)
from throughtime.tasks.kinds import Frames, Likelihood

BINARY = ("frame-rnn:cell=gru,hidden=4", "rnn-nade:cell=lstm,hidden=4,units=3,features=5")


def binary(text: str) -> FrameRNN:
    torch.manual_seed(0)
    model = build_model(text, Frames(2, binary=True), Likelihood()).double().eval()
    assert isinstance(model, FrameRNN)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.requires_grad_(False)


def every(time: int, width: int) -> Tensor:
    rows = torch.tensor([*itertools.product((0.0, 1.0), repeat=time * width)]).double()
    return rows.view(-1, time, width).transpose(0, 1)


@pytest.mark.parametrize("text", BINARY)
def test_probabilities_of_all_sequences_sum_to_one(text):
    """The first frame is scored, too: without it the sum would be 4."""
    model, x = binary(text), every(3, 2)
    log_prob = model.log_prob(x)
    assert abs(float(log_prob.exp().sum()) - 1) < 1e-10
    assert float(log_prob.std()) > 0.1


@pytest.mark.parametrize("text", BINARY)
def test_drawn_sequences_have_their_probabilities(text):
    model, x, count = binary(text), every(2, 2), 40_000
    torch.manual_seed(0)
    drawn = model.sample(count, 2)
    numbers = (drawn.transpose(0, 1).flatten(1) * torch.tensor([8.0, 4, 2, 1]).double()).sum(1)
    found = numbers.long().bincount(minlength=16) / count
    p = model.log_prob(x).exp()
    assert bool(((found - p).abs() < 5 * (p * (1 - p) / count).sqrt() + 1e-9).all())


def test_a_frame_is_read_after_its_step_alone():
    model, x = binary(BINARY[0]), every(4, 2)[:, 77:78]
    found = model.frame_log_probs(x)
    for t in range(1, 4):
        later = x.clone()
        later[t:] = 1 - later[t:]
        other = model.frame_log_probs(later)
        assert torch.equal(other[:t], found[:t])
        assert not torch.equal(other[t], found[t])


@pytest.mark.parametrize("text", BINARY)
def test_padding_adds_nothing(text):
    model, x = binary(text), every(4, 2)[:, 10:13]
    lengths = torch.tensor([4, 1, 3])
    whole = model.frame_log_probs(x, lengths)
    assert torch.equal(whole.sum(0), model.log_prob(x, lengths))
    for row, length in enumerate(lengths.tolist()):
        alone = model.frame_log_probs(x[:length, row : row + 1])
        assert torch.allclose(whole[:length, row], alone[:, 0], atol=1e-12)
        assert not whole[length:, row].any()
    x[2:, 1] = math.nan
    assert torch.equal(model.frame_log_probs(x, lengths), whole)


def test_a_gaussian_by_hand():
    """A layer without weights: independent normal frames."""
    model = FrameRNN(GRU(2, 3), GaussianOutput(3, 2)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    x = torch.randn(4, 2, 2).double()
    deviation = math.log(2) + 1e-4
    expected = torch.distributions.Normal(0, deviation).log_prob(x).sum((0, 2))
    assert torch.allclose(model.log_prob(x), expected, atol=1e-10)


def test_samples_go_on_after_known_frames():
    model = binary(BINARY[1])
    known = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]).double()
    torch.manual_seed(0)
    x = model.sample(20_000, 3, known=known)
    assert torch.equal(x[:2], known.expand(2, 20_000, 2))
    frames = every(1, 2)
    p = model.frame_log_probs(torch.cat([known.expand(2, 4, 2), frames]))[2].exp()
    assert abs(float(p.sum()) - 1) < 1e-10
    found = torch.stack([(x[2] == frame).all(1).double().mean() for frame in frames[0]])
    assert bool(((found - p).abs() < 5 * (p * (1 - p) / 20_000).sqrt() + 1e-9).all())


def test_draws_of_a_sequence_do_not_depend_on_the_others():
    torch.manual_seed(0)
    model, seeds = FrameRNN(LSTM(3, 5), PenOutput(5, 2)).eval(), torch.tensor([3, 8])
    both, log_prob = model.sample_and_log_prob(2, 4, random=seeds)
    assert torch.allclose(model.sample(1, 4, random=seeds[1:])[:, 0], both[:, 1], atol=1e-5)
    assert torch.equal(model.log_prob(both), log_prob)


def test_models_that_cannot_be():
    with pytest.raises(ConfigurationError, match="bidirectional"):
        FrameRNN(GRU(2, 3, bidirectional=True), BernoulliOutput(6, 2))
    with pytest.raises(ConfigurationError, match=r"input_size=3, expected 2"):
        FrameRNN(GRU(3, 3), BernoulliOutput(3, 2))
    with pytest.raises(ConfigurationError, match="units"):
        NADEOutput(3, 2, 0)
    for text in ("rnn-nade:units=0", "frame-rnn:components=0", "frame-rnn:components=2"):
        with pytest.raises(ConfigurationError, match=r"units|components"):
            build_model(text, Frames(2, binary=True), Likelihood())
    with pytest.raises(ConfigurationError, match="NADE for frames of real numbers"):
        build_model("rnn-nade", Frames(2, binary=False), Likelihood())


def test_frames_that_cannot_be_scored(unchecked):
    model, x = binary(BINARY[0]), every(3, 2)[:, :2]
    with pytest.raises(ConfigurationError, match=r"value 2.*0 and 1"):
        model.log_prob(x + 2)
    with pytest.raises(DataError, match="0 frames"):
        model.log_prob(x[:0])
    with pytest.raises(DataError, match="0 sequences"):
        model.log_prob(x[:, :0])
    with pytest.raises(ShapeError, match=r"batch, 2"):
        model.log_prob(x[..., :1])
    with pytest.raises(LengthsError):
        model.log_prob(x, torch.tensor([0, 3]))
    with pytest.raises(ConfigurationError, match="count"):
        model.sample(0, 3)
    with pytest.raises(ConfigurationError, match="length"):
        model.sample(1, 0)
    with pytest.raises(ShapeError, match="known"):
        model.sample(1, 2, known=x[:, :1])
    with pytest.raises(ConfigurationError, match="0 and 1"):
        model.sample(1, 4, known=x[:, :1] + 0.5)
