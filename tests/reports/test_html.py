"""The page: every number that it should have, nothing from the network, names as text."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from reports.pages import Page

from throughtime.core.errors import RunWriteError
from throughtime.reports import read_comparison
from throughtime.reports.comparison_text import finding
from throughtime.reports.page import render_report, write_report


def test_what_was_asked(page: Page) -> None:
    assert "digits: rnn, irnn, lstm, gru and skip-rnn" in page.text
    assert "throughtime compare digits --models rnn,irnn,lstm,gru,skip-rnn --seeds 3" in page.text
    assert "Handwritten digits, 8x8, read one pixel at a time." in page.text
    criterion = "its validation split meets the criterion: test accuracy of at least 97 %"
    assert f"A run is solved if {criterion} (our choice)." in page.text
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
        dataclasses.replace(model, label=f"lstm, {way}", name=f"lstm, {way}")
        for model, way in zip(found.models, ways, strict=True)
    )
    for asked, title in (
        (["lstm"], "digits: lstm, clipped, rtrl and uoro"),
        (["lstm", "gru"], "digits: lstm"),
    ):
        study = dataclasses.replace(found, models=models, request={"models": asked})
        assert f"<h1>{title}</h1>" in render_report(study)
        assert study.only_model == ("lstm" if len(asked) == 1 else None)
    only = dataclasses.replace(found, models=models, request={"models": ["lstm"]})
    assert [model.label for model in only.in_short.models] == list(ways)
    assert not only.names_settings
    assert not only.in_short.names_settings
    assert "lstm, " not in finding(only)


def test_finding_is_there(page: Page) -> None:
    assert "gru (95.1 ± 1.2 %) and lstm (93.7 ± 1.2 %) give the most right test" in page.text
    assert "1 of 3 runs of irnn diverged." in page.text


def test_table_has_every_number(page: Page) -> None:
    heading, *rows = page.rows
    assert heading == [
        "model",
        "test accuracy",
        "steps done",
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
    assert "gru, seed 2 test accuracy 96.3 %, completed, 1,000 steps" in page.text
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


def test_axes_fit_their_data(write_comparison) -> None:
    """Every curve is within its axes, and takes up most of their height."""
    page = Page(render_report(read_comparison(write_comparison(labels=("gru", "lstm")))))
    for name in ("accuracy", "loss", "gradient_start", "gradient"):
        figure = page.figure(name)
        axis = figure["layout"]["yaxis"]
        logarithmic = axis.get("type") == "log"
        values = [y for t in figure["data"] for y in t["y"]]
        values += [0.01] if name.startswith("gradient") else []  # the level of the reach
        shown = [math.log10(y) if logarithmic else y for y in values]
        low, high = axis["range"]
        assert low <= min(shown)
        assert max(shown) <= high
        assert max(shown) - min(shown) > 0.6 * (high - low), name


def test_chance_far_below_all_curves_does_not_stretch_the_axis(write_comparison) -> None:
    folder = write_comparison(labels=("gru",), seeds=1)
    for file in folder.glob("*/*/metrics.jsonl"):
        rows = [
            {"step": step, "kind": "validation", "loss": 0.2 - step / 1e4, "accuracy": 0.97}
            for step in range(50, 501, 50)
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(render_report(read_comparison(folder)))
    accuracy, loss = (page.figure(name)["layout"] for name in ("accuracy", "loss"))
    assert accuracy["yaxis"]["range"] == pytest.approx([0.965, 0.975])
    assert "shapes" not in accuracy
    assert loss["yaxis"].get("type") != "log"  # a third of a decade
    assert loss["yaxis"]["range"] == pytest.approx([0.1478, 0.1973], abs=1e-3)
    assert "shapes" not in loss


def test_a_sawtooth_is_faint_behind_its_moving_average(write_comparison) -> None:
    folder = write_comparison(labels=("gru",), seeds=1)
    (file,) = folder.glob("*/*/metrics.jsonl")
    saw = [0.5 + 0.4 * (-1) ** k + 0.001 * k for k in range(40)]
    rows = [
        {"step": k, "kind": "validation", "loss": 2.0, "accuracy": value}
        for k, value in enumerate(saw)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(render_report(read_comparison(folder)))
    raw, line = page.figure("accuracy")["data"]
    assert (raw["meta"]["role"], line["meta"]["role"]) == ("raw", "line")
    assert raw["y"] == pytest.approx(saw)
    assert raw["opacity"] < 0.5
    assert raw["line"]["width"] < line["line"]["width"]
    for k in (2, 20, 37):
        assert line["y"][k] == pytest.approx(sum(saw[k - 2 : k + 3]) / 5, rel=1e-4)
    assert line["hoverinfo"] == "skip"  # values are those of the evaluations
    assert "over neighbouring evaluations" in page.text


def test_a_smooth_curve_is_drawn_as_it_is(page: Page) -> None:
    assert {t["meta"]["role"] for t in page.figure("accuracy")["data"]} == {
        *("band", "line", "diverged")
    }
    assert "over neighbouring evaluations" not in page.text


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
    assert figure["layout"]["yaxis"]["range"] == [-12.15, 0.15]


def test_all_runs_diverged(write_comparison) -> None:
    folder = write_comparison(labels=("rnn",), seeds=1, statuses={("rnn", 0): "diverged"})
    page = Page(render_report(read_comparison(folder)))
    assert "Every run on digits diverged." in page.text
    assert page.rows[1][1] == "- 1 of 1 diverged"
    assert len(page.rows[1]) == 5  # no column of a gradient that was not measured


def test_nothing_is_fetched(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            own = tag == "a" and str(attributes.get(name)).startswith("data:text/csv")
            assert name not in attributes or own, f"<{tag} {name}={attributes.get(name)}>"
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
