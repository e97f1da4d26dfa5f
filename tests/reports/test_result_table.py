"""The table of a comparison's page: settings, sorting, the star, and the same as CSV."""

import csv
import dataclasses
import io
import json
import urllib.parse
from pathlib import Path

import pytest
from reports.pages import Page

from throughtime.reports import read_comparison
from throughtime.reports.comparison_text import csv_text
from throughtime.reports.page import render_report


def test_settings_that_differ_are_in_the_table(write_comparison) -> None:
    folder = write_comparison(labels=("gru", "lstm"), seeds=1)
    for label, rate, options in (("gru", 0.02, {}), ("lstm", 0.001, {"betas": [0.5, 0.9]})):
        change(folder / label / "seed-0" / "config.json", learning_rate=rate)
        change(folder / label / "seed-0" / "config.json", optimizer_options=options)
    heading, gru, lstm = Page(render_report(read_comparison(folder))).rows
    assert heading[2:4] == ["learning rate", "optimizer options"]
    assert gru[2:4] == ["0.02", "{}"]
    assert lstm[2:4] == ["0.001", '{"betas": [0.5, 0.9]}']


def test_the_title_names_a_model_once_that_has_several_settings(write_comparison) -> None:
    found = read_comparison(write_comparison(labels=("gru", "lstm"), seeds=1))
    first, second = found.models
    again = dataclasses.replace(first, label="gru, steps=3000")
    page = render_report(dataclasses.replace(found, models=(first, second, again)))
    assert "<h1>digits: gru and lstm</h1>" in page
    assert "After a model's name stand the settings that differ" in page
    assert "After a model's name" not in render_report(found)


def test_headings_are_buttons_and_cells_have_values_to_sort_by(page: Page) -> None:
    headings = [a for tag, a in page.elements if tag == "th" and a["scope"] == "col"]
    assert all(a["aria-sort"] == "none" for a in headings)
    assert sum(tag == "button" and "data-first" in a for tag, a in page.elements) == len(headings)
    values = [
        a["data-value"] for tag, a in page.elements if tag in ("td", "th") and "data-value" in a
    ]
    assert len(values) == 5 * len(headings)
    columns = [values[k :: len(headings)] for k in range(len(headings))]
    assert columns[0] == ["rnn", "irnn", "lstm", "gru", "skip-rnn"]
    assert [float(v) for v in columns[1]] == pytest.approx([0.48, 0.81, 0.937, 0.951, 0.88])
    assert [float(v) for v in columns[2]] == pytest.approx([1000, 777.667, 1000, 1000, 1000])


def test_star_is_explained(write_comparison) -> None:
    page = Page(render_report(read_comparison(write_comparison(labels=("rnn", "gru")))))
    assert [row[1] for row in page.rows[1:]] == ["48.0 ± 1.2 % n = 3", "95.1 ± 1.2 % ★ n = 3"]
    told = "★: each seed of the model has a higher test accuracy than all seeds of the others."
    assert told in page.text
    assert [a["title"] for tag, a in page.elements if a.get("class") == "star"] == [told]


def test_solved_names_its_split(write_comparison) -> None:
    page = Page(render_report(read_comparison(write_comparison(statuses={("gru", 0): "solved"}))))
    assert "1 of 3 solved on validation" in page.rows[4][2]
    assert "gru, seed 0 test accuracy 93.9 %, solved on validation, 1,000 steps" in page.text


def test_csv_has_every_model_and_every_run(write_comparison) -> None:
    folder = write_comparison(statuses={("irnn", 1): "diverged"}, labels=("irnn", "gru"))
    change(folder / "gru" / "seed-0" / "config.json", learning_rate=0.5)
    change(folder / "gru" / "seed-1" / "config.json", learning_rate=0.5)
    change(folder / "gru" / "seed-2" / "config.json", learning_rate=0.5)
    page = Page(render_report(read_comparison(folder)))
    links = {a["download"]: a["href"] for tag, a in page.elements if tag == "a"}
    models, runs = (list(csv.DictReader(io.StringIO(decoded(url)))) for url in links.values())
    assert list(links) == [f"{folder.name}-models.csv", f"{folder.name}-runs.csv"]
    assert [(row["model"], row["diverged"], row["learning_rate"]) for row in models] == [
        ("irnn", "1", "0.003"),
        ("gru", "0", "0.5"),
    ]
    assert float(models[1]["test accuracy, mean"]) == pytest.approx(0.951)
    assert len(runs) == 6
    assert runs[1]["status"] == "diverged"
    assert runs[1]["test accuracy"] == ""
    assert runs[3]["seed"] == "0"
    assert float(runs[3]["test accuracy"]) == pytest.approx(0.939)
    assert runs[3]["gradient reach after training"] == "63"


def test_csv_is_quoted_and_no_formula() -> None:
    names = ["=1+1", "+1", "-1", "@x", "\tx", 'a "b", c\nd', "plain"]
    text = csv_text([{"name": name, "=loss": -0.5} for name in names])
    heading, *rows = csv.reader(io.StringIO(text, newline=""))
    assert heading == ["name", "'=loss"]
    assert [row[0] for row in rows] == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", *names[5:]]
    assert {row[1] for row in rows} == {"-0.5"}


def decoded(url: str | None) -> str:
    head, _, data = str(url).partition(",")
    assert head == "data:text/csv;charset=utf-8"
    return urllib.parse.unquote(data)


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
