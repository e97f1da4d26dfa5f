"""The weights of an attention over the source: those of the model, of true pairs alone."""

import math

import pytest
import torch

from throughtime import GRU
from throughtime.core.errors import ConfigurationError
from throughtime.instruments import alignment
from throughtime.memory import AdditiveAttention
from throughtime.models import EncoderDecoder
from throughtime.tasks.kinds import Pairs, Tokens
from throughtime.tasks.pairs import collated
from throughtime.tasks.vocabulary import CharacterVocabulary

KINDS = Pairs(Tokens(6), Tokens(7))
PAIRS = [([1, 2, 3], [4, 2]), ([4, 5], [1, 3, 0, 2])]


def model() -> EncoderDecoder:
    torch.manual_seed(0)
    attention = AdditiveAttention(4, 4, 5)
    return EncoderDecoder(KINDS, GRU(3, 4), GRU(7, 4), context="attention", attention=attention)


def test_weights_are_those_of_each_pair_alone() -> None:
    made = model().train()
    found = alignment(made, collated(PAIRS, 5, 6))
    assert made.training
    for row, (source, target) in enumerate(PAIRS):
        one = collated([(source, target)], 5, 6)
        with torch.no_grad():
            expected = made.alignment(one.inputs, made.encode(one.source, one.source_lengths))
        got = found.weights[row, : len(target) + 1, : len(source)]
        torch.testing.assert_close(got, expected[:, 0].double(), rtol=1e-5, atol=1e-7)
        assert found.weights[row, len(target) + 1 :].isnan().all()
        assert found.weights[row, :, len(source) :].isnan().all()


def test_entropy_of_equal_weights_is_that_of_their_number() -> None:
    made = model()
    with torch.no_grad():
        made.decoder.cells()[0].attention.vector.zero_()
    found = alignment(made, collated(PAIRS, 5, 6))
    torch.testing.assert_close(found.entropy[0, :3], torch.full((3,), math.log(3)).double())
    torch.testing.assert_close(found.entropy[1], torch.full((5,), math.log(2)).double())
    assert found.entropy[0, 3:].isnan().all()


def test_words_are_those_of_the_vocabularies() -> None:
    names = {"source": CharacterVocabulary("uvwxyz"), "target": CharacterVocabulary("abcdefg")}
    found = alignment(model(), collated(PAIRS, 5, 6), pairs=1, vocabularies=names)
    assert found.source_words == (("v", "w", "x"),)
    assert found.target_words == (("e", "c", "g"),)


def test_a_model_without_attention_is_refused() -> None:
    made = EncoderDecoder(KINDS, GRU(3, 4), GRU(3, 4))
    with pytest.raises(ConfigurationError, match="expected a model with attention"):
        alignment(made, collated(PAIRS, 5, 6))
    with pytest.raises(ConfigurationError, match="got GRU and PairBatch"):
        alignment(torch.nn.GRU(1, 2), collated(PAIRS, 5, 6))
