"""Judgements: files that are read or refused, and the intervals of a published study."""

import itertools
import json
import math
from pathlib import Path

import pytest

from throughtime.core.errors import DataError
from throughtime.results.judgement import Answers, Judgement, Vote, preferences, share

# Serban et al. 2017, table 1: wins, losses and ties of VHRED in percent, each with the half width
# of its 90 % interval.
PUBLISHED = {
    "LSTM, short": ((32.3, 2.4), (42.5, 2.6), (25.2, 2.3)),
    "LSTM, long": ((41.9, 2.2), (36.8, 2.2), (21.3, 1.9)),
    "HRED, short": ((42.0, 2.8), (31.9, 2.6), (26.2, 2.5)),
    "HRED, long": ((41.5, 2.8), (29.4, 2.6), (29.1, 2.6)),
    "TF-IDF, short": ((51.6, 3.3), (17.9, 2.5), (30.4, 3.0)),
    "TF-IDF, long": ((47.9, 3.4), (11.7, 2.2), (40.3, 3.4)),
}


def implied(percent: float, half_width: float) -> range:
    """The numbers of votes whose interval rounds to the published one."""

    def votes(width: float) -> float:
        p = percent / 100
        return p * (1 - p) * (1.6448536 / (width / 100)) ** 2

    return range(math.ceil(votes(half_width + 0.05)), math.floor(votes(half_width - 0.05)) + 1)


@pytest.mark.parametrize("row", PUBLISHED)
def test_the_published_intervals_follow_from_the_votes_that_each_row_implies(row: str) -> None:
    """One number of votes gives all three intervals of a row."""
    shares = PUBLISHED[row]
    common = set.intersection(*(set(implied(*each)) for each in shares))
    found = []
    for total in sorted(common):
        near = [[math.floor(p * total / 100), math.ceil(p * total / 100)] for p, _ in shares]
        for counts in itertools.product(*near):
            ours = [share(count, total) for count in counts]
            rounded = [(round(100 * s.share, 1), round(100 * s.half_width, 1)) for s in ours]
            if sum(counts) == total and rounded == list(shares):
                found.append(total)
    assert found, f"no number of votes gives {row}"
    # between 560 and 1,330 votes, as the widths say
    assert min(found) > 560
    assert max(found) < 1330


def test_an_interval_is_as_wide_as_that_of_the_binomial_law() -> None:
    """The share of draws within it, from exact probabilities."""
    n, p = 400, 0.3
    log = math.lgamma(n + 1)
    inside = 0.0
    for k in range(n + 1):
        found = share(k, n)
        if abs(found.share - p) <= found.half_width:
            inside += math.exp(
                log
                - math.lgamma(k + 1)
                - math.lgamma(n - k + 1)
                + k * math.log(p)
                + (n - k) * math.log(1 - p)
            )
    assert abs(inside - 0.9) < 0.01


def _judgement(a: str, b: str, *votes: str) -> Judgement:
    made = (Vote(k, "short" if k < 2 else "long", "a", vote) for k, vote in enumerate(votes))  # pyright: ignore[reportArgumentType]
    return Judgement(a, b, "chats", 0, tuple(made))


def test_judges_add_up_and_exchanged_sides_are_turned() -> None:
    rows = preferences(
        [
            _judgement("x", "y", "a", "a", "tie"),
            _judgement("y", "x", "a", "b", "b"),
            _judgement("x", "z", "b"),
        ]
    )
    found = [(r.a, r.b, r.length, r.votes, r.wins.share, r.losses.share) for r in rows]
    assert found == [
        ("x", "y", "short", 4, 0.75, 0.25),
        ("x", "y", "long", 2, 0.5, 0.0),
        ("x", "z", "short", 1, 0.0, 1.0),
    ]
    assert preferences([_judgement("x", "y")]) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no judgement"),
        ("[]", "no schema_version 1"),
        ('{"schema_version": 2}', "no schema_version 1"),
        ('{"schema_version": 1, "a": "x"}', "b is missing"),
        ("\x00\x01", "holds no judgement"),
        ("[" * 100_000, "holds no judgement"),
        (
            json.dumps(
                {
                    "schema_version": 1,
                    "a": "x",
                    "b": "y",
                    "task": "t",
                    "seed": 0,
                    "votes": [{"context": 0, "length": "short", "first": "a", "vote": "c"}],
                }
            ),
            r"votes\[0\].vote is 'c'",
        ),
        (
            json.dumps(
                {
                    "schema_version": 1,
                    "a": "x",
                    "b": "y",
                    "task": "t",
                    "seed": 0,
                    "votes": [{"context": 0, "length": "short", "first": "a", "vote": "a"}] * 2,
                }
            ),
            "two votes on a context",
        ),
    ],
)
def test_a_file_that_is_no_judgement_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=words):
        Judgement.read(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([], "got 0 answers"),
        ([{"context": [], "answer": "x"}], "no context that is empty"),
        ([{"context": ["a"], "answer": "x"}] * 2, "got 2 answers, 1 different contexts"),
        ([{"context": "a", "answer": "x"}], "context is 'a'"),
        ([{"context": ["a"], "answer": 1}], r"answers\[0\].answer is 1"),
    ],
)
def test_a_file_that_holds_no_answers_is_refused(tmp_path: Path, answers: list, words: str) -> None:
    document = {"schema_version": 1, "model": "x", "task": "t", "answers": answers}
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=words):
        Answers.read(tmp_path / "a.json")
    with pytest.raises(DataError, match="No such file"):
        Answers.read(tmp_path / "b.json")
    (tmp_path / "c.json").write_bytes(json.dumps(document).encode("utf-16"))
    with pytest.raises(DataError, match="holds no answers"):
        Answers.read(tmp_path / "c.json")


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    document = {
        "schema_version": 1,
        "model": "x",
        "task": "t",
        "answers": [{"context": ["a", "\u00e9"], "answer": ""}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert Answers.read(tmp_path / "a.json").to_json() == document
