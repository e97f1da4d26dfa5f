"""Vocabularies: text as numbers and back."""

import importlib.util
import json

import pytest

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks.vocabulary import (
    CharacterVocabulary,
    SubwordVocabulary,
    Vocabulary,
    WordVocabulary,
)

needs_tokenizers = pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None, reason="tokenizers is not installed"
)


def again(vocabulary: Vocabulary) -> Vocabulary:
    return Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))


def test_characters_are_in_the_order_of_their_code_points():
    vocabulary = CharacterVocabulary.of("né\nan")
    assert vocabulary.symbols == ("\n", "a", "n", "é")
    assert vocabulary.encode("é\n") == [3, 0]
    assert vocabulary.decode([3, 0]) == "é\n"
    assert (vocabulary.unknown, vocabulary.begin, vocabulary.end) == (None, None, None)
    assert again(vocabulary) == vocabulary


def test_an_unknown_character_is_named():
    vocabulary = CharacterVocabulary.of("ab")
    with pytest.raises(DataError, match="got 'x', expected one of 'ab'"):
        vocabulary.encode("axb")
    with pytest.raises(ConfigurationError, match="got 'x', expected one of 'ab'"):
        vocabulary.encode("axb", prompt=True)


def test_characters_with_ends():
    vocabulary = CharacterVocabulary.of("ab\n", ends=True)
    assert (vocabulary.begin, vocabulary.end, len(vocabulary)) == (0, 1, 4)
    assert vocabulary.encode("a\nb") == [2, 1, 3]
    assert vocabulary.decode([0, 2, 1, 3]) == "a\nb"


def test_words_are_ordered_by_frequency_then_alphabet():
    vocabulary = WordVocabulary.of("b a\nc a <unk>\n")
    assert vocabulary.symbols == ("<unk>", "<eos>", "a", "b", "c")
    assert vocabulary.encode("a d\nc\n") == [2, 0, 1, 4, 1]
    assert vocabulary.decode([2, 0, 1, 4, 1]) == "a <unk>\nc\n"
    assert again(vocabulary) == vocabulary


def test_size_and_least_count_of_words():
    text = "a a a b b c"
    assert WordVocabulary.of(text, size=4).symbols == ("<unk>", "<eos>", "a", "b")
    assert WordVocabulary.of(text, least_count=3).symbols == ("<unk>", "<eos>", "a")
    assert WordVocabulary.of(text, begin=True).begin == 1


@pytest.mark.parametrize(
    "text", ['Don\'t stop (now), he said... "yes"!', "a/b ?! x", "3.5 % of <unk> -- so", "(a) ,b"]
)
def test_punctuation_is_joined_again(text: str):
    vocabulary = WordVocabulary.of(text, punctuation=True)
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_punctuation_marks_are_words():
    vocabulary = WordVocabulary.of("the cat, the dog", punctuation=True)
    assert vocabulary.encode("cat,") == [*vocabulary.encode("cat"), *vocabulary.encode("x,")[1:]]


def test_capital_letters_are_read_as_small_ones():
    vocabulary = WordVocabulary.of("The the THE", lower_case=True)
    assert vocabulary.symbols == ("<unk>", "<eos>", "the")
    assert vocabulary.encode("tHe") == [2]
    assert again(vocabulary).encode("tHe") == [2]


@needs_tokenizers
@pytest.mark.parametrize("text", ["low lower lowest", "ünïcode\n\ttabs  and blanks ", "日本 🙂\n"])
def test_subwords_encode_any_text(text: str):
    vocabulary = SubwordVocabulary.of("low lower lowest newer\nwider <unk> <unk>\n", size=280)
    assert len(vocabulary) <= 280
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert again(vocabulary).encode(text) == vocabulary.encode(text)
    lengths = vocabulary.lengths()
    assert sum(lengths[number] for number in vocabulary.encode(text)) == len(text)
    assert vocabulary.unknown is None
    assert vocabulary.end == 0


@needs_tokenizers
def test_subwords_merge_frequent_pairs():
    text = "low lower lowest " * 9
    few, many = (SubwordVocabulary.of(text, size=size) for size in (258, 300))
    assert len(many.encode(text)) < len(few.encode(text)) < len(text)


def test_wrong_sizes():
    with pytest.raises(ConfigurationError, match="got 2, expected more than 2"):
        WordVocabulary.of("a", size=2)
    with pytest.raises(ConfigurationError, match="least_count: got 0"):
        WordVocabulary.of("a", least_count=0)


@needs_tokenizers
def test_wrong_size_of_subwords():
    with pytest.raises(ConfigurationError, match="got 256, expected more than 257"):
        SubwordVocabulary.of("a", size=256)


def test_wrong_symbols():
    with pytest.raises(DataError, match="got 'a' twice"):
        CharacterVocabulary(["a", "b", "a"])
    with pytest.raises(DataError, match="got none"):
        CharacterVocabulary([])
    with pytest.raises(DataError, match="got no <unk>"):
        WordVocabulary(["a"])
    with pytest.raises(ConfigurationError, match="got 2, expected 0 to 1"):
        CharacterVocabulary.of("ab").decode([0, 2])


@pytest.mark.parametrize(
    "document", [{}, {"kind": "letters"}, {"kind": "words"}, {"kind": "characters", "symbols": 3}]
)
def test_wrong_documents(document: dict[str, object]):
    with pytest.raises(DataError, match=r"expected the document of Vocabulary\.to_json"):
        Vocabulary.from_json(document)


@pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is not None, reason="tokenizers is installed"
)
def test_subwords_without_the_package():
    with pytest.raises(ConfigurationError, match=r"pip install 'throughtime\[subwords\]'"):
        SubwordVocabulary.of("a")
