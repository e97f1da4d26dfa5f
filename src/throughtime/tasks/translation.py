"""Translation: two texts whose lines belong together, and BLEU on detokenised text."""

import collections
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, final

from torch import nn

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.core.scoring import Metric
from throughtime.tasks.kinds import Pairs, Tokens
from throughtime.tasks.pairs import Pair, PairSet, greedy_texts
from throughtime.tasks.task import Split, check_at_least
from throughtime.tasks.vocabulary import (
    CharacterVocabulary,
    SubwordVocabulary,
    Vocabulary,
    WordVocabulary,
)

TokenKind: TypeAlias = Literal["words", "subwords", "characters"]
"""A kind of symbols."""


class Parallel(NamedTuple):
    """Lines of a source and of a target; line k of the one belongs to line k of the other."""

    source: Sequence[str]
    target: Sequence[str]


@final
class Translation(PairSet):
    """A line of the target's language, from the line of the source's.

    Vocabularies are made of the training lines. BLEU and chrF are sacrebleu's, on detokenised
    text, from greedy decoding; `signatures` holds their settings. Where text is lower-cased, both
    are computed without regard to case.

    Arguments:
        texts: lines of each split, none empty.
        tokens: kind of the symbols.
        size: largest number of symbols of a vocabulary; None for no limit, or 4,000 subwords.
        least_count: number of times that a word has to occur; rarer ones are one symbol.
        lower_case: If True, capital letters are read as small ones (of words alone).
        longest: largest number of symbols of a training source or target; longer pairs are left
            out of training, never of held-out data.

    Inputs:
        symbols of the source.

    Targets:
        symbols of the target, and its end.

    Chance:
        frequencies of the training targets' symbols, 1 added to each count, on the validation
        targets.

    Raises:
        ConfigurationError: an option out of range, or a package is not installed.
        DataError: a split without lines, texts of unequal length, or an empty line.

    Example:
        >>> texts = Parallel(["a b", "b a b"], ["x y", "y x y"])
        >>> task = Translation(dict.fromkeys(("training", "validation", "test"), texts))
        >>> next(task.batches("validation", 2)).targets.T.tolist()
        [[4, 3, 2, -1], [3, 4, 3, 2]]
    """

    name = "translation"
    criterion = "none: the run makes all its steps (our choice)"

    def __init__(
        self,
        texts: Mapping[Split, Parallel],
        *,
        tokens: TokenKind = "words",
        size: int | None = None,
        least_count: int = 1,
        lower_case: bool = False,
        longest: int = 100,
    ):
        self._metrics = _sacrebleu()
        check_at_least("longest", longest, 1)
        if lower_case and tokens != "words":
            raise ConfigurationError("lower_case", got=f"tokens={tokens}", expected="tokens=words")
        for split, lines in texts.items():
            check_parallel(f"{split} texts", lines)
        self.texts, self.lower_case = texts, lower_case
        vocabularies: dict[str, Vocabulary] = {}
        for place, side in enumerate(("source", "target")):
            read = [lines[place] for name, lines in texts.items() if name == "training"]
            if tokens == "characters":  # it has no symbol for unknown ones
                read = [lines[place] for lines in texts.values()]
            text = "\n".join(line for lines in read for line in lines)
            vocabularies[side] = _vocabulary(text, tokens, size, least_count, lower_case)
        self.vocabularies: Mapping[str, Vocabulary] = vocabularies
        source, target = vocabularies["source"], vocabularies["target"]
        assert target.begin is not None
        assert target.end is not None
        self.begin, self.end = target.begin, target.end
        self.inputs = Pairs(Tokens(len(source)), Tokens(len(target)))
        self.pairs = {
            split: [(source.encode(s), target.encode(t)) for s, t in zip(*lines, strict=True)]
            for split, lines in texts.items()
        }
        short = [p for p in self.pairs["training"] if max(map(len, p)) <= longest]
        if not short:
            raise DataError(
                "training texts", got="no pair", expected=f"one of at most {longest} symbols"
            )
        self.pairs["training"] = short
        self.dependency_length = max(len(p[0]) for p in short)
        self.longest_target = max(len(p[1]) for p in short)
        self.length = self.dependency_length + self.longest_target + 1
        self.chance_loss = _chance(self.pairs, len(target), self.end)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Perplexity, the loss in nats, the accuracy of symbols, BLEU and chrF."""
        return (
            Metric("perplexity", "per symbol", "lower", math.exp(self.chance_loss)),
            Metric("loss", "nats", "lower", self.chance_loss, tables=False),
            Metric("accuracy", "fraction", "higher", tables=False),
            Metric("bleu", "0 to 100", "higher"),
            Metric("chrf", "0 to 100", "higher", tables=False),
        )

    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return "bleu" and "chrf" of greedy decoding, from 0 to 100; set `signatures`.

        Arguments:
            model: trained model.
            split: held-out data.
        """
        most = 2 * self.longest_target
        symbols = greedy_texts(model, self.pairs[split], begin=self.begin, end=self.end, most=most)
        decode = self.vocabularies["target"].decode
        return self.judge([decode(each) for each in symbols], split)

    def judge(self, translations: Sequence[str], split: Split) -> dict[str, float]:
        """Return "bleu" and "chrf" of translations of all lines of a split; set `signatures`.

        Arguments:
            translations: detokenised lines in the order of the split.
            split: held-out data.

        Raises:
            DataError: another number of lines.
        """
        references = self.texts[split].target
        if len(translations) != len(references):
            raise DataError(
                "translations", got=f"{len(translations)} lines", expected=str(len(references))
            )
        scorers = {
            "bleu": self._metrics.BLEU(lowercase=self.lower_case),
            "chrf": self._metrics.CHRF(lowercase=self.lower_case),
        }
        found = {
            name: float(scorer.corpus_score(list(translations), [list(references)]).score)
            for name, scorer in scorers.items()
        }
        self.signatures = {name: str(s.get_signature()) for name, s in scorers.items()}
        return found

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return False.

        Arguments:
            metrics: unused.
        """
        del metrics
        return False


def _chance(pairs: Mapping[Split, Sequence[Pair]], alphabet: int, end: int) -> float:
    counts = collections.Counter(s for _, target in pairs["training"] for s in (*target, end))
    total = sum(counts.values()) + alphabet
    nats = [
        math.log(total / (counts[s] + 1))
        for _, target in pairs["validation"]
        for s in (*target, end)
    ]
    return sum(nats) / len(nats)


def _vocabulary(
    text: str, tokens: TokenKind, size: int | None, least_count: int, lower_case: bool
) -> Vocabulary:
    if tokens == "words":
        return WordVocabulary.of(
            text,
            size=size,
            least_count=least_count,
            begin=True,
            punctuation=True,
            lower_case=lower_case,
        )
    if tokens == "subwords":
        return SubwordVocabulary.of(text, size=4000 if size is None else size, begin=True)
    return CharacterVocabulary.of(text, ends=True)


def _sacrebleu() -> Any:
    try:
        return importlib.import_module("sacrebleu.metrics")
    except ImportError as error:
        raise ConfigurationError(
            "translation needs the package sacrebleu",
            got=str(error),
            fix="Run: pip install 'throughtime[translation]'.",
        ) from error


def check_parallel(subject: str, lines: Parallel) -> None:
    """Raise DataError unless there are as many lines on both sides, none of them empty.

    Arguments:
        subject: name of the texts, for the message.
        lines: the lines of both sides.
    """
    if len(lines.source) != len(lines.target) or not lines.source:
        raise DataError(
            subject,
            got=f"{len(lines.source):,} and {len(lines.target):,} lines",
            expected="equal numbers, at least one: lines of the same number belong together",
        )
    for side, text in lines._asdict().items():
        for number, line in enumerate(text, start=1):
            if not line.strip():
                raise DataError(
                    f"{subject}, line {number} of the {side}",
                    got="an empty line",
                    expected="text",
                    fix="Remove the line from both files.",
                )
