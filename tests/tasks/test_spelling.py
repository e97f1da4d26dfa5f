"""Numbers in words: against sums of the words' values, and the chance by enumeration."""

import collections
import math

import pytest

import throughtime as tt
from throughtime.models import build_model
from throughtime.tasks import TASKS, Spelling
from throughtime.tasks.spelling import _SMALL, _TENS, spelled

VALUES = {word: n for n, word in enumerate(_SMALL)} | {t: 20 + 10 * k for k, t in enumerate(_TENS)}


def value(words: list[str]) -> int:
    """The number that words name, read from the left."""
    thousands = total = 0
    for word in words:
        if word == "hundred":
            total *= 100
        elif word == "thousand":
            thousands, total = 1000 * total, 0
        else:
            total += VALUES[word]
    return thousands + total


def test_words_name_the_number_and_no_two_numbers_share_them() -> None:
    numbers = [*range(3000), 10_000, 99_999, 100_000, 100_001, 219_040, 999_999]
    assert [value(spelled(n)) for n in numbers] == numbers
    assert " ".join(spelled(40_213)) == "forty thousand two hundred thirteen"


def test_targets_are_the_words_of_the_sources_digits() -> None:
    task = Spelling(digits=3)
    decode = task.vocabularies["target"].decode
    batch = next(task.batches("training", 30))
    for row in range(30):
        digits = batch.source[row].view(3, 10).argmax(-1).tolist()
        target = batch.targets[:, row]
        symbols = target[target >= 0].tolist()
        assert symbols[-1] == task.end
        assert value(decode(symbols[:-1]).split()) == int("".join(map(str, digits)))


def test_every_number_is_in_one_split() -> None:
    task = Spelling(digits=3)
    sizes = {split: len(pairs) for split, pairs in task.pairs.items()}
    assert sizes == {"validation": 100, "test": 100, "training": 800}
    sources = {tuple(source.tolist()) for pairs in task.pairs.values() for source, _ in pairs}
    assert len(sources) == 1000


def test_chance_is_that_of_a_table_of_all_beginnings() -> None:
    task = Spelling(digits=2)
    texts = [(*spelled(n), "END") for n in range(100)]
    counts = collections.Counter(text[:k] for text in texts for k in range(len(text) + 1))
    nats = right = total = 0.0
    for text in texts:
        for k in range(len(text)):
            nats -= math.log(counts[text[: k + 1]] / counts[text[:k]])
            total += 1
    for beginning in {text[:k] for text in texts for k in range(len(text))}:
        right += max(n for t, n in counts.items() if t[:-1] == beginning and t)
    assert task.chance_loss == pytest.approx(nats / total)
    assert task.chance == pytest.approx(right / total)


def test_a_model_spells_what_it_is_given() -> None:
    task = TASKS.build("spelling:digits=2")
    model = build_model("encoder-decoder:cell=gru,hidden=8", task.inputs, task.answers).eval()
    assert task.examine(model, "test")["sequence_accuracy"] <= 1
    with pytest.raises(tt.errors.ConfigurationError, match="digits of task 'spelling': got 7"):
        Spelling(digits=7)
