"""Answers to dialogues, and people's judgement of two answers to each: wins, losses and ties."""

import collections
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypeVar

from throughtime.core.errors import DataError
from throughtime.results.fields import from_document, to_document

SCHEMA_VERSION = 1
Length: TypeAlias = Literal["short", "long"]
Choice: TypeAlias = Literal["a", "b", "tie"]
_MOST_BYTES = 1 << 26
_Record = TypeVar("_Record")


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer to a dialogue.

    Attributes:
        context: texts of the utterances before.
        answer: text of the answer.
    """

    context: tuple[str, ...]
    answer: str


@dataclasses.dataclass(frozen=True)
class Answers:
    """The answers of one model.

    Attributes:
        model: its name.
        task: data set of the contexts.
        answers: the answers; no context occurs twice.
    """

    model: str
    task: str
    answers: tuple[Answer, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the answers as JSON values."""
        return {"schema_version": SCHEMA_VERSION, **to_document(self)}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the answers of a file.

        Arguments:
            path: the JSON file.

        Raises:
            DataError: a file that is missing, or holds no answers.
        """
        found = _read(cls, path, "answers")
        contexts = [each.context for each in found.answers]
        if not contexts or not all(contexts) or len(set(contexts)) < len(contexts):
            raise DataError(
                str(path),
                got=f"{len(contexts)} answers, {len(set(contexts))} different contexts",
                expected="at least one answer, one for each context, and no context that is empty",
            )
        return found


@dataclasses.dataclass(frozen=True)
class Vote:
    """A judgement of two answers to one context.

    Attributes:
        context: number of the context.
        length: part of the contexts to which it belongs.
        first: model whose answer stood first.
        vote: model whose answer is better, or "tie".
    """

    context: int
    length: Length
    first: Literal["a", "b"]
    vote: Choice


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The votes of one person on the answers of two models.

    Attributes:
        a, b: names of the models.
        task: data set of the contexts.
        seed: seed of the orders.
        votes: the votes.
    """

    a: str
    b: str
    task: str
    seed: int
    votes: tuple[Vote, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the judgement of a file that the page of `throughtime judge` has made.

        Arguments:
            path: the JSON file.

        Raises:
            DataError: a file that is missing, or holds no judgement.
        """
        found = _read(cls, path, "judgement", ignored=("counts",))
        numbers = [vote.context for vote in found.votes]
        if len(set(numbers)) < len(numbers):
            raise DataError(str(path), got="two votes on a context", expected="one at most")
        return found


def _read(kind: type[_Record], path: Path, what: str, ignored: Sequence[str] = ()) -> _Record:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise TypeError(f"more than {_MOST_BYTES:,} bytes")
        document = json.loads(content.decode("utf-8-sig"))
        if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
            raise TypeError(f"no schema_version {SCHEMA_VERSION}")
        left_out = {"schema_version", *ignored}
        return from_document(kind, {k: v for k, v in document.items() if k not in left_out})
    except OSError as error:
        raise DataError(str(path), got=error.strerror or str(error), expected=what) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} holds no {what}", got=str(error), expected=f"a JSON file of {what}"
        ) from error


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of votes.

    Attributes:
        share: the fraction.
        half_width: half the width of its 90 % interval, as a fraction.
    """

    share: float
    half_width: float


_QUANTILE = 1.6448536269514722  # of the standard normal law at 95 %


def share(count: int, total: int) -> Share:
    """Return a share of votes with its 90 % interval, p -+ 1.645 sqrt(p (1 - p) / n).

    Arguments:
        count: votes of a kind.
        total: all votes, at least 1.

    Example:
        >>> found = share(323, 1000)
        >>> round(100 * found.share, 1), round(100 * found.half_width, 1)
        (32.3, 2.4)
    """
    p = count / total
    return Share(p, _QUANTILE * math.sqrt(p * (1 - p) / total))


@dataclasses.dataclass(frozen=True)
class Preferences:
    """Wins, losses and ties of a model against another, on short or on long contexts.

    Attributes:
        a, b: names of the models.
        task: data set of the contexts.
        length: part of the contexts.
        votes: number of votes.
        wins, losses, ties: shares of a's wins, of its losses, and of ties.
    """

    a: str
    b: str
    task: str
    length: Length
    votes: int
    wins: Share
    losses: Share
    ties: Share

    @classmethod
    def of_counts(
        cls, names: tuple[str, str, str], length: Length, counts: Mapping[Choice, int]
    ) -> Self:
        """Return the shares of counted votes.

        Arguments:
            names: names of the models and of the task.
            length: part of the contexts.
            counts: number of votes of each kind.
        """
        total = sum(counts.values())
        choices: tuple[Choice, ...] = ("a", "b", "tie")
        return cls(*names, length, total, *(share(counts.get(c, 0), total) for c in choices))


def preferences(judgements: Iterable[Judgement]) -> list[Preferences]:
    """Return the preferences of all judges together, for each pair of models and each length.

    A judgement with the models in the other order counts with wins and losses exchanged.

    Arguments:
        judgements: votes of any number of people.

    Example:
        >>> votes = (Vote(0, "short", "b", "a"), Vote(1, "short", "a", "tie"))
        >>> (row,) = preferences([Judgement("hred", "flat", "dailydialog", 0, votes)])
        >>> row.votes, row.wins.share, row.losses.share, row.ties.share
        (2, 0.5, 0.0, 0.5)
    """
    counts: dict[tuple[str, str, str], dict[Length, collections.Counter[Choice]]] = {}
    other: dict[Choice, Choice] = {"a": "b", "b": "a", "tie": "tie"}
    for each in judgements:
        key, turned = (each.a, each.b, each.task), (each.b, each.a, each.task)
        swapped = turned in counts and key not in counts
        own = counts.setdefault(turned if swapped else key, {})
        for vote in each.votes:
            choice = other[vote.vote] if swapped else vote.vote
            own.setdefault(vote.length, collections.Counter())[choice] += 1
    lengths: tuple[Length, ...] = ("short", "long")
    return [
        Preferences.of_counts(names, length, own[length])
        for names, own in counts.items()
        for length in lengths
        if length in own
    ]
