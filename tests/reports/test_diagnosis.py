"""A diagnosis on a page, in the terminal and in a notebook: all that was found, names as text."""

import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser

import pytest
from reports.diagnoses import ALL, HEALTHY, HOSTILE, INCONCLUSIVE, ODD, VANISHING
from rich.console import Console

from throughtime.core.errors import RunWriteError
from throughtime.reports import diagnosis_text as words
from throughtime.reports.diagnosis_text import diagnosis_text, printed
from throughtime.reports.drawing import empty
from throughtime.reports.page import CARRYING, render_fragment, render_page
from throughtime.results.diagnosis import Cause, Diagnosis, Estimate

VOID = {"meta", "link", "br", "img", "input", "hr", "line"}


class Page(HTMLParser):
    """A page's elements, its text without scripts and styles, and its data."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.folded: list[str] = []
        self.texts: list[str] = []
        self.data: dict[str, dict] = {}
        self.feed(page)
        self.close()
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        attributes = self.elements[-1][1] if self.elements else {}
        if "script" in self.open or "style" in self.open:
            if attributes.get("type") == "application/json":
                self.data[str(attributes["id"])] = json.loads(data)
            return
        (self.folded if "details" in self.open else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def folded_text(self) -> str:
        return " ".join(" ".join(self.folded).split())

    def count(self, tag: str, **attributes: str) -> int:
        return sum(
            t == tag and all(a.get(k.rstrip("_")) == v for k, v in attributes.items())
            for t, a in self.elements
        )


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    return {name: Page(render_page(diagnosis)) for name, diagnosis in ALL.items()}


# -- the page ----------------------------------------------------------------------------------


def test_verdict_stands_first(pages) -> None:
    text = pages["vanishing"].text
    said = (
        "SequenceClassifier (rnn: nn.RNN) Vanishing gradient The gradient of the RNN falls to 1 % "
        "within 17 steps, and the answer needs 100: nothing earlier than that is learnt. "
        "measured the interval is clear of the threshold. The gradient shrinks"
    )
    assert said in text
    parts = [text.index(t) for t in ("The evidence", "What was tried", "What was found", "Details")]
    assert text.index(said) < parts[0]
    assert parts == sorted(parts)


def test_pictures_that_carry_the_verdict_are_open(pages) -> None:
    page = pages["vanishing"]
    for k, picture in enumerate(VANISHING.pictures):
        assert picture.title in (page.text if k < CARRYING else page.folded_text)
    assert page.count("figure") == len(page.data) == len(VANISHING.pictures)
    assert "More pictures 2" in page.folded_text


def test_remedies_have_before_and_after(pages) -> None:
    text = pages["vanishing"].text
    assert (
        "nn.LSTM with forget bias 3 held-out loss copies with and without it, trained 200 updates "
        "each 0.692 0.691 to 0.694 0.0841 0.0702 to 0.0983 helped model.rnn = nn.LSTM("
    ) in text
    assert (
        "gradient at lag 100 instruments on an untrained copy 1.2e-12 9.0e-13 to 1.7e-12 0.0340 "
        "0.0290 to 0.0410 not trained"
    ) in text
    assert "0.692 0.690 to 0.694 no clear help torch.nn.utils.clip_grad_norm_" in text
    assert pages["vanishing"].count("button", class_="copy") == 3


def test_findings_have_size_and_threshold(pages) -> None:
    text = pages["vanishing"].text
    assert (
        "fault vanishing gradient measured: the interval is clear of the threshold The gradient "
        "that reaches lag 100 is 1.2e-12 of its largest value; the reference LSTM's is 0.22. reach "
        "of the gradient in steps: 17.2 (15.8 to 18.6, n = 8); below the threshold 100. "
        "Measured on layer rnn, 8 batches of 32 sequences. What to do: Use a gated cell, or start "
        "the recurrent matrix as the identity."
    ) in text
    assert "note healthy proved: by an exact experiment No step" in text


def test_facts_and_asks_are_folded(pages) -> None:
    page = pages["vanishing"]
    assert "What to pass for more 2 Pass metric= to have accuracy" in page.folded_text
    assert "parameters 4,417" in page.folded_text
    assert "took 31 s of 1 min 00 s allowed" in page.folded_text


def test_what_would_settle_it_is_not_folded(pages) -> None:
    page = pages["inconclusive"]
    assert "What would settle it Pass at least 8 batches" in page.text
    assert "What to pass for more" not in page.folded_text


def test_page_without_pictures_is_small_and_without_empty_parts(pages) -> None:
    page = pages["healthy"]
    assert len(render_page(HEALTHY)) < 30_000
    for title in ("The evidence", "What was tried", "More pictures", "JavaScript"):
        assert title not in page.text + page.folded_text
    assert page.count("script") == 1


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_fetched(pages, name: str) -> None:
    for tag, attributes in pages[name].elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        for attribute in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert attribute not in attributes


def test_names_are_text_and_not_markup(pages) -> None:
    page = pages["odd"]
    drawn = sum(not all(math.isnan(y) for s in p.series for y in s.y) for p in ODD.pictures)
    assert page.count("script") == drawn + 2
    assert page.count("img") == 0
    assert page.text.count(HOSTILE) >= 15
    assert page.folded_text.count(HOSTILE) == 4
    # plotly reads tags in its labels: there they are escaped
    assert "<script" not in json.dumps(page.data).replace("&lt;", "")


def test_empty_pictures_say_so(pages) -> None:
    assert pages["odd"].text.count("Nothing to draw: no value of it is a number.") == 2
    assert set(pages["odd"].data) == {"data-picture-0", *(f"data-picture-{k}" for k in (3, 4, 5))}


def test_code_between_backticks(pages) -> None:
    page = render_page(
        dataclasses.replace(INCONCLUSIVE, missing_evidence=("a `<b>` c", "one ` alone"))
    )
    assert "<li>a <code>&lt;b&gt;</code> c</li><li>one ` alone</li>" in page


def test_intervals_lie_on_one_scale(pages) -> None:
    """Before and after: the lowest number at 3 %, the highest at 97 %."""
    page = pages["vanishing"]
    styles = [str(a["style"]) for t, a in page.elements if t == "i" and a.get("class") == "range"]
    spans = [tuple(map(float, re.findall(r"[\d.]+", style))) for style in styles]
    assert len(spans) == 6
    # 0.6923 in 0.6911 to 0.6935 over a scale from 0.0702 to 0.6935, linear
    assert spans[0] == pytest.approx(
        (3 + 94 * (0.6911 - 0.0702) / 0.6233, 94 * 0.0024 / 0.6233), abs=0.02
    )
    # 0.9e-12 to 0.041 is logarithmic
    assert spans[2] == pytest.approx(
        (3, 94 * math.log(1.7 / 0.9) / math.log(0.041 / 0.9e-12)), abs=0.02
    )
    for left, width in spans:
        assert left >= 3
        assert left + width <= 97.01


def test_file_is_written_whole(tmp_path) -> None:
    file = VANISHING.save(str(tmp_path / "diagnosis.html"))
    assert file == tmp_path / "diagnosis.html"
    assert file.read_text(encoding="utf-8") == render_page(VANISHING)
    assert [*tmp_path.iterdir()] == [file]


def test_folder_that_is_not_there(tmp_path) -> None:
    with pytest.raises(RunWriteError, match=r"cannot write .*nowhere"):
        HEALTHY.save(tmp_path / "nowhere" / "diagnosis.html")


# -- the terminal ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("width", [40, 71, 72, 80, 120])
def test_no_line_is_too_long(name: str, width: int) -> None:
    assert max(map(len, printed(diagnosis_text(ALL[name]), width).splitlines())) <= width


def test_terminal_says_everything_at_80_columns() -> None:
    assert str(HEALTHY).splitlines() == [
        "╭─ Tagger (lstm: nn.LSTM) ─────────────────────────────────────────────────────╮",
        "│ HEALTHY                                                                      │",
        "│ The model remembers all 100 steps that its answers need.                     │",
        "│ measured: the interval is clear of the threshold. The answer depends on what │",
        "│ is far back, and the gradient reaches it.                                    │",
        "╰──────────────────────────────────────────────────────────────────────────────╯",
        "",
        "What was found",
        "",
        "1. NOTE healthy (measured)",
        "   The gradient at lag 100 is 0.31 of its largest value.",
        "   relative gradient at lag 100: 0.310 (0.280 to 0.340, n = 8); above the",
        "   threshold 0.01. Measured on layer lstm, 8 batches.",
        "",
        "This took 4.2 s of 1 min 00 s allowed. Its page, with pictures:",
        "diagnosis.save(path)",
    ]


def test_remedies_in_the_terminal() -> None:
    text = str(VANISHING)
    assert "nn.LSTM with     held-out loss    0.692                0.0841             yes" in text
    assert "forget bias 3    200 updates      0.691 to 0.694       0.0702 to 0.0983" in text
    # as it is pasted, indentation and all
    code = [line[2:] for line in text.splitlines() if line.startswith("  ")]
    assert "\n".join(code).count(VANISHING.remedies[0].code) == 1
    assert VANISHING.remedies[2].code not in text  # it did not help
    assert "- Pass `metric=` to have accuracy beside the loss." in text


def test_narrow_terminal_has_no_table() -> None:
    text = " ".join(printed(diagnosis_text(VANISHING), 40).split())
    assert "held-out loss, 200 updates: 0.692 (0.691 to 0.694) → 0.0841 (0.0702" in text


@pytest.mark.parametrize("name", ALL)
def test_text_holds_every_word(name: str) -> None:
    """Nothing is cut off, however long: folded text without spaces is the same."""
    diagnosis = ALL[name]

    def bare(text: str) -> str:
        return re.sub(r"[\s│]", "", text)

    text = bare(printed(diagnosis_text(diagnosis), 100))
    assert bare(diagnosis.sentence) in text
    for finding in diagnosis.findings:
        assert bare(finding.statement) in text
        assert bare(finding.remedy) in text
    for item in diagnosis.missing_evidence:
        assert bare(item) in text


def test_piped_text_has_no_colours_and_a_terminal_has() -> None:
    assert "\x1b" not in str(VANISHING)
    stream = io.StringIO()
    Console(file=stream, width=80, force_terminal=True, color_system="standard").print(VANISHING)
    assert "\x1b[" in stream.getvalue()
    plain = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())
    assert [line.rstrip() for line in plain.splitlines()] == str(VANISHING).splitlines()


def test_repr_is_one_line() -> None:
    assert repr(HEALTHY) == "<Diagnosis of Tagger (lstm: nn.LSTM): healthy, findings=1, remedies=0>"


# -- the notebook ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_fragment_is_compact_and_without_scripts(name: str) -> None:
    fragment = ALL[name]._repr_html_()
    page = Page(fragment)
    assert fragment == render_fragment(ALL[name])
    assert len(fragment) < 40_000
    assert not {"script", "style", "img", "link"} & {tag for tag, _ in page.elements}
    drawn = [picture for picture in ALL[name].pictures if not empty(picture)]
    assert [tag for tag, _ in page.elements].count("svg") == len(drawn)
    for picture in drawn:
        assert " ".join(picture.title.split()) in f"{page.text} {page.folded_text}"
    for finding in ALL[name].findings:
        assert " ".join(finding.statement.split()) in page.text
    for remedy in ALL[name].remedies:
        assert remedy.name in page.text


# -- the words ---------------------------------------------------------------------------------


def test_every_cause_has_its_words() -> None:
    assert set(words.MEANINGS) == set(Cause)
    for cause in Cause:
        diagnosis = dataclasses.replace(HEALTHY, verdict=cause)
        assert words.headline(diagnosis).lower() == cause.value
        assert f"<h1>{words.headline(diagnosis)}</h1>" in render_page(diagnosis)


def test_certainty_is_that_of_the_verdict() -> None:
    assert words.certainty(VANISHING) == "measured"
    assert words.certainty(INCONCLUSIVE) is None
    healthy = dataclasses.replace(VANISHING, verdict=Cause.HEALTHY)
    assert words.certainty(healthy) == "proved"


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        (Estimate(0.5, 0.5, 0.5, 1), ("0.500", "0.500", "0.500")),
        (Estimate(0.12344, 0.12341, 0.12349, 9), ("0.12344", "0.12341", "0.12349")),
        (Estimate(12345.6, 12000, 13000, 9), ("12,346", "12,000", "13,000")),
        (Estimate(2.5e7, 2.44e7, 2.56e7, 9), ("2.5e7", "2.4e7", "2.6e7")),
        (Estimate(0.0, -0.1, 0.1, 9), ("0.000", "-0.100", "0.100")),
        (Estimate(0.0, 0.0, 0.0, 9), ("0", "0", "0")),
        (Estimate(1e-9, 0.0, math.inf, 9), ("1.0e-9", "0", "∞")),
        (Estimate(math.nan, math.nan, math.nan, 9), ("NaN", "NaN", "NaN")),
    ],
)
def test_numbers_of_an_interval(estimate: Estimate, said: tuple[str, str, str]) -> None:
    assert words.numbers(estimate) == said


# -- the values ---------------------------------------------------------------------------------


def test_json_of_a_diagnosis_is_plain() -> None:
    document = json.loads(json.dumps(ODD.to_json(), allow_nan=False))
    assert document["verdict"] == "EXPLODING"
    assert document["findings"][2]["threshold"] == "inf"


def test_diagnosis_is_a_plain_value() -> None:
    assert isinstance(VANISHING, Diagnosis)
    assert dataclasses.replace(VANISHING) == VANISHING


def test_a_logarithm_is_shown_as_a_power_of_ten() -> None:
    name = "log10 of the gradient at lag 90"
    finding = dataclasses.replace(
        VANISHING.findings[0],
        effect=Estimate(-9.02, -9.21, -8.8, 8),
        effect_name=name,
        threshold=-3,
    )
    assert words.effect(finding) == (
        "the gradient at lag 90: 10^-9.0 (10^-9.2 to 10^-8.8, n = 8); below the threshold 10^-3"
    )
