"""The page and the text of a reproduction: the paper, numbers side by side, claims."""

import dataclasses
import io

import pytest
from reports.pages import Page
from rich.console import Console

from throughtime.reports.reproduction import (
    judgement,
    render_reproduction,
    reproduction_markdown,
    reproduction_table,
)
from throughtime.results.comparison import spread
from throughtime.results.reproduction import Checked, Measured, Reproduction

FOUND = Reproduction(
    name="skips",
    title="Skips help",
    source="A. Author & B. Author, A paper on <skips>, NIPS 2016: Table 1",
    effect="Accuracy rises with the skip.",
    differs="The optimiser is our choice.",
    quantity="accuracy",
    scale="full (two hours)",
    rows=(
        Measured("s = 1", "rnn", 0.349, (0.1, 0.6), spread([0.11, 0.13]), 0, 61.0),
        Measured("s = 9", "skip-rnn:lag=9", 0.749, None, spread([0.12, 0.16]), 0, 50.0),
        Measured("s = 21", "skip-rnn:lag=21", None, None, spread([0.9, 0.92]), 0, 40.0),
        Measured("s = 40", "skip-rnn:lag=40", 0.9, None, None, 2, 1.0),
    ),
    checks=(
        Checked("more with s = 21", "difference", ("s = 21", "s = 1"), 0.79, 0.4, True),
        Checked("it rises", "order", ("s = 1", "s = 9", "s = 21"), 0.02, 0.05, False),
        Checked("twice as many", "ratio", ("s = 21", "s = 1"), 7.583, 2.0, True),
        Checked("s = 1 is low", "below", ("s = 1",), 0.12, 0.2, True),
        Checked("s = 40 is high", "above", ("s = 40",), None, 0.5, False),
    ),
    seeds=2,
    seconds=152.0,
    commit="abc",
    device="cpu",
)


@pytest.fixture
def page() -> Page:
    return Page(render_reproduction(FOUND, {"": "report.html"}))


def test_the_paper_is_cited(page: Page) -> None:
    assert "citation A. Author & B. Author, A paper on <skips>, NIPS 2016: Table 1." in page.text
    assert "effect Accuracy rises with the skip." in page.text
    assert "what differs here The optimiser is our choice." in page.text
    assert "3 of the 5 claims hold in these runs." in page.text


def test_each_claim_has_yes_or_no_and_how_it_was_judged(page: Page) -> None:
    assert page.rows[1:6] == [
        [
            "more with s = 21",
            "yes",
            "s = 21 minus s = 1: 79.0 points; required: at least 40.0 points",
        ],
        [
            "it rises",
            "no",
            "the least rise along s = 1, s = 9, s = 21: 2.0 points; required: at least 5.0 "
            "points; the seeds overlap",
        ],
        ["twice as many", "yes", "s = 21 divided by s = 1: 7.58; required: at least 2"],
        ["s = 1 is low", "yes", "s = 1: 12.0 %; required: at most 20.0 %"],
        ["s = 40 is high", "no", "s = 40: not known; required: at least 50.0 %"],
    ]


def test_the_papers_numbers_stand_beside_ours(page: Page) -> None:
    heading, *rows = page.rows[6:]
    assert heading == [
        "model",
        "paper",
        "ours",
        "expected",
        "seeds",
        "time",
        "accuracy, from 0 % to 100 %",
    ]
    assert [row[:4] for row in rows] == [
        ["s = 1 rnn", "34.9 %", "12.0 % ± 1.4", "10.0 % to 60.0 %"],
        ["s = 9 skip-rnn:lag=9", "74.9 %", "14.0 % ± 2.8", "-"],
        ["s = 21 skip-rnn:lag=21", "-", "91.0 % ± 1.4", "-"],
        ["s = 40 skip-rnn:lag=40", "90.0 %", "diverged", "-"],
    ]
    assert rows[3][4] == "2 (2 diverged)"
    places = [a["style"] for tag, a in page.elements if tag == "i" and a["class"] == "paper"]
    assert places == ["left: 34.9%", "left: 74.9%", "left: 90.0%"]


def test_pages_of_the_parts_are_linked() -> None:
    page = Page(render_reproduction(FOUND, {"<T = 5>": "t-5/report.html", "b": "b/report.html"}))
    links = [a["href"] for tag, a in page.elements if tag == "a"]
    assert links == ["t-5/report.html", "b/report.html"]
    assert "<T = 5>" in page.text
    assert not any(tag in ("script", "link", "img") for tag, _ in page.elements)


def test_one_seed_is_said() -> None:
    rows = (dataclasses.replace(FOUND.rows[0], ours=spread([0.5])), *FOUND.rows[1:])
    found = dataclasses.replace(FOUND, rows=rows, seeds=1)
    assert judgement(found.checks[0], found).endswith("at least 40.0 points; one seed")
    assert "| s = 1 | 34.9 % | 50.0 % |" in reproduction_markdown(found)


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        ([True], "The claim holds in these runs."),
        ([False], "The claim does not hold in these runs."),
        ([True, True], "Both claims hold in these runs."),
        ([False, False], "Neither claim holds in these runs."),
        ([True, True, True], "All of the 3 claims hold in these runs."),
        ([False, False, False], "None of the 3 claims hold in these runs."),
        ([True, False], "1 of the 2 claims holds in these runs."),
    ],
)
def test_verdict(holds: list[bool], said: str) -> None:
    checks = tuple(dataclasses.replace(FOUND.checks[0], holds=h) for h in holds)
    found = dataclasses.replace(FOUND, checks=checks)
    assert found.verdict == said
    assert found.reproduced == all(holds)
    assert said in reproduction_markdown(found)


def test_the_terminal_has_the_claims() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80, highlight=False).print(reproduction_table(FOUND))
    text = " ".join(stream.getvalue().split())
    assert "A. Author & B. Author, A paper on <skips>, NIPS 2016: Table 1" in text
    assert "NO: it rises (the least rise along" in text
    assert "3 of the 5 claims hold in these runs." in text
