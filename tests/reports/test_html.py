"""The page: every number that it should have, nothing from the network, names as text."""

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from throughtime.core.errors import RunWriteError
from throughtime.reports import read_comparison
from throughtime.reports.finding import finding
from throughtime.reports.html import render_report, write_report

# Elements that have no end tag.
VOID = {"meta", "link", "br", "img", "input", "hr", "line"}


class Page(HTMLParser):
    """The page's elements, its text without scripts and styles, its table and its data."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.data: dict[str, str] = {}
        self.feed(page)
        self.close()
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if "script" in self.open or "style" in self.open:
            if attributes.get("type") == "application/json" and tag == "script":
                self.data[str(attributes["id"])] = data
            return
        self.texts.append(data)
        if "td" in self.open or ("th" in self.open and "tr" in self.open):
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def figure(self, name: str) -> dict:
        return json.loads(self.data[f"data-{name}"])


@pytest.fixture
def page(write_comparison) -> Page:
    """Of a comparison one of whose runs diverged."""
    folder = write_comparison(statuses={("irnn", 1): "diverged"})
    return Page(render_report(read_comparison(folder)))


def test_what_was_asked(page: Page) -> None:
    assert "digits: rnn, irnn, lstm, gru and skip-rnn" in page.text
    assert "throughtime compare digits --models rnn,irnn,lstm,gru,skip-rnn --seeds 3" in page.text
    assert "Handwritten digits, 8x8, read one pixel at a time." in page.text
    assert "Solved means: test accuracy of at least 97 % (our choice)." in page.text
    for fact in (
        "sequence length 64",
        "dependency length 63",
        "chance 10.0 %",
        "seeds 3",
        "steps at most 1,000",
        "batch 64",
    ):
        assert fact in page.text


def test_the_title_names_a_model_once_that_learns_in_several_ways(write_comparison) -> None:
    found = read_comparison(write_comparison(labels=("rnn", "lstm", "gru")))
    ways = ("clipped", "rtrl", "uoro")
    models = tuple(
        dataclasses.replace(model, label=f"lstm, {way}")
        for model, way in zip(found.models, ways, strict=True)
    )
    for asked, title in (
        (["lstm"], "digits: lstm, clipped, rtrl and uoro"),
        (["lstm", "gru"], "digits: lstm, clipped, lstm, rtrl and lstm, uoro"),
    ):
        study = dataclasses.replace(found, models=models, request={"models": asked})
        assert f"<h1>{title}</h1>" in render_report(study)
        assert study.only_model == ("lstm" if len(asked) == 1 else None)
    only = dataclasses.replace(found, models=models, request={"models": ["lstm"]})
    assert [model.label for model in only.in_short.models] == list(ways)
    assert "lstm, " not in finding(only)


def test_finding_is_there(page: Page) -> None:
    assert "gru does best on digits: 95.1 ± 1.2 % of its test answers are right" in page.text
    assert "1 of 3 runs of irnn diverged." in page.text


def test_table_has_every_number(page: Page) -> None:
    heading, *rows = page.rows
    assert heading == [
        "model",
        "test accuracy",
        "steps",
        "time a run",
        "parameters",
        "gradient reaches back",
    ]
    assert [row[0].split()[0] for row in rows] == ["rnn", "irnn", "lstm", "gru", "skip-rnn"]
    assert [row[1] for row in rows] == [
        "48.0 ± 1.2 % n = 3",
        "81.0 ± 1.7 % n = 2, 1 of 3 diverged",
        "93.7 ± 1.2 % n = 3",
        "95.1 ± 1.2 % n = 3",
        "88.0 ± 1.2 % n = 3",
    ]
    assert [row[2] for row in rows] == ["1,000", "778", "1,000", "1,000", "1,000"]
    assert [row[3] for row in rows] == ["18 s"] * 5
    assert [row[4] for row in rows] == ["5,002", "5,002", "17,546", "13,322", "9,098"]
    assert [row[5] for row in rows] == [
        "9 → 18 of 63 steps",
        "17 → 63 of 63 steps",
        "16 → 63 of 63 steps",
        "20 → 63 of 63 steps",
        "15 → 62 of 63 steps",
    ]
    assert "skip-rnn:lag=8" in rows[4][0]


def test_values_have_a_loss(write_comparison) -> None:
    folder = write_comparison(task={"answer": "value"})
    heading, *rows = Page(render_report(read_comparison(folder))).rows
    assert heading[2] == "test loss"
    assert rows[3][2] == "0.208 ± 0.03"


def test_every_run_has_its_configuration(page: Page) -> None:
    summaries = [a for tag, a in page.elements if tag == "summary"]
    assert len(summaries) == 1 + 15
    assert "irnn, seed 1 diverged at step 333: loss not finite" in page.text
    assert "gru, seed 2 96.3 %, completed, 1,000 steps" in page.text
    assert page.text.count("learning_rate 0.003") == 1 + 15
    assert page.text.count("throughtime 0.1.0 torch 2.13.0 numpy 2.4.6") == 1 + 15


def test_learning_curves(page: Page) -> None:
    """Line: the mean over seeds. Band: the highest forth, the lowest back."""
    figure = page.figure("accuracy")
    band, line = [t for t in figure["data"] if t["meta"]["series"] == 3]
    assert line["name"] == "gru"
    assert line["x"] == list(range(50, 1001, 50))
    assert line["y"][-1] == pytest.approx(0.951, rel=1e-4)
    assert band["x"] == line["x"] + line["x"][::-1]
    assert (band["y"][19], band["y"][20]) == (0.963, 0.939)
    roles = [t["meta"]["role"] for t in figure["data"] if t["meta"]["series"] == 1]
    assert roles == ["band", "line", "diverged"]
    assert figure["layout"]["shapes"][0]["y0"] == 0.1


def test_loss_axis_is_logarithmic(page: Page) -> None:
    layout = page.figure("loss")["layout"]
    assert layout["yaxis"]["type"] == "log"
    assert layout["yaxis"]["ticktext"] == ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50"]


def test_run_that_ended_early_keeps_its_last_value(write_comparison) -> None:
    folder = write_comparison(labels=("gru",), seeds=2)
    file = folder / "gru" / "seed-0" / "metrics.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:20]) + "\n")
    last = json.loads(lines[19])
    assert last["step"] == 500
    other = json.loads((folder / "gru" / "seed-1" / "metrics.jsonl").read_text().splitlines()[-1])
    line = Page(render_report(read_comparison(folder))).figure("accuracy")["data"][1]
    assert line["x"][-1] == 1000
    assert line["y"][-1] == pytest.approx((last["accuracy"] + other["accuracy"]) / 2, rel=1e-4)


def test_gradient_by_lag(page: Page, tmp_path: Path) -> None:
    """Relative to each run's largest, geometric mean, with the dependency length and 1 % marked."""
    figure = page.figure("gradient")
    assert figure["layout"]["yaxis"]["type"] == "log"
    lines = {t["name"]: t for t in figure["data"] if t["meta"]["role"] == "line"}
    assert lines["rnn"]["x"] == list(range(64))
    relative = []
    for seed in range(3):
        flow = json.loads((tmp_path / "rnn" / f"seed-{seed}" / "gradient_flow.json").read_text())
        norms = flow["trained"]["norm_by_lag"]
        relative.append([norm / max(norms) for norm in norms])
    for lag in (0, 1, 17, 63):
        product = relative[0][lag] * relative[1][lag] * relative[2][lag]
        assert lines["rnn"]["y"][lag] == pytest.approx(product ** (1 / 3), rel=1e-4)
    across, upright = figure["layout"]["shapes"]
    assert (across["y0"], across["y1"]) == (0.01, 0.01)
    assert (upright["x0"], upright["x1"]) == (63, 63)
    texts = [a["text"] for a in figure["layout"]["annotations"]]
    assert texts == ["1 %", "dependency length, 63"]


def test_gradient_before_training_has_a_figure_of_its_own(page: Page) -> None:
    before, after = (
        {t["name"]: t["y"] for t in page.figure(name)["data"] if t["meta"]["role"] == "line"}
        for name in ("gradient_start", "gradient")
    )
    for name in after:
        assert before[name][0] == pytest.approx(after[name][0], abs=0.2)
        assert before[name][40] < 1e-3 * after[name][40]


def test_gradient_axes_are_the_same(page: Page) -> None:
    before, after = (
        page.figure(name)["layout"]["yaxis"] for name in ("gradient_start", "gradient")
    )
    assert before == after


def test_gradient_that_vanished_entirely(write_comparison) -> None:
    """Zeros have no place on a log axis; what is below 1e-12 does not stretch it."""
    folder = write_comparison(labels=("rnn",), seeds=1)
    file = folder / "rnn" / "seed-0" / "gradient_flow.json"
    flow = json.loads(file.read_text())
    norms = [1.0, 1e-5, 1e-20, *[0.0] * 61]
    trained = {**flow["trained"], "norm_by_lag": norms, "reach": 0}
    file.write_text(json.dumps({**flow, "trained": trained}))
    figure = Page(render_report(read_comparison(folder))).figure("gradient")
    (line,) = figure["data"]
    assert (line["x"], line["y"]) == ([0, 1, 2], [1.0, 1e-5, 1e-20])
    assert figure["layout"]["yaxis"]["range"] == [-12.15, 0.4]


def test_all_runs_diverged(write_comparison) -> None:
    folder = write_comparison(labels=("rnn",), seeds=1, statuses={("rnn", 0): "diverged"})
    page = Page(render_report(read_comparison(folder)))
    assert "Every run on digits diverged." in page.text
    assert page.rows[1][1] == "- 1 of 1 diverged"
    assert page.rows[1][5] == "-"


def test_nothing_is_fetched(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert name not in attributes, f"<{tag} {name}={attributes.get(name)}>"
    style = (Path(__file__).parents[2] / "src/throughtime/reports/templates/style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_names_are_text_and_not_markup(write_comparison) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'&"
    folder = write_comparison(
        labels=("gru",),
        seeds=1,
        task={"spec": hostile, "description": hostile, "criterion": hostile},
        descriptions={"gru": hostile},
        command=hostile,
    )
    file = folder / "compare.json"
    file.write_text(file.read_text().replace('"label": "gru"', f'"label": {json.dumps(hostile)}'))
    page = Page(render_report(read_comparison(folder)))
    assert sum(tag == "script" for tag, _ in page.elements) == 4 + 2
    assert not any(tag == "img" for tag, _ in page.elements)
    assert page.text.count(hostile) >= 6
    assert page.figure("accuracy")["data"][0]["name"] == hostile


def test_file_is_written_whole(write_comparison) -> None:
    comparison = read_comparison(write_comparison(seeds=1))
    file = write_report(comparison)
    assert file == comparison.report
    assert file.read_text(encoding="utf-8") == render_report(comparison)
    assert file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert not list(comparison.folder.glob("*.tmp"))


def test_folder_that_cannot_be_written(write_comparison) -> None:
    comparison = read_comparison(write_comparison(seeds=1))
    comparison.report.mkdir()
    with pytest.raises(RunWriteError, match=r"cannot write .*report\.html"):
        write_report(comparison)
