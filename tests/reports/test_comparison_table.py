"""The terminal's table at 80 columns."""

import io
import re
import shutil

import pytest
from rich.console import Console

from throughtime.reports import read_comparison
from throughtime.reports.comparison_text import comparison_table
from throughtime.results import Comparison


def printed(comparison: Comparison, width: int = 80) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(comparison_table(comparison))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_table_as_it_is_printed(write_comparison) -> None:
    lines = printed(read_comparison(write_comparison(statuses={("irnn", 1): "diverged"})))
    assert [line.strip() for line in lines] == [
        "digits: 3 seeds, chance 10.0 %",
        "",
        "gradient",
        "model       test accuracy  steps  time  parameters     reach",
        "────────────────────────────────────────────────────────────",
        "rnn          48.0 ± 1.2 %  1,000  18 s       5,002    9 → 18",
        "irnn         81.0 ± 1.7 %    778  18 s       5,002   17 → 63",
        "1 of 3 diverged",
        "lstm         93.7 ± 1.2 %  1,000  18 s      17,546   16 → 63",
        "gru          95.1 ± 1.2 %  1,000  18 s      13,322   20 → 63",
        "skip-rnn     88.0 ± 1.2 %  1,000  18 s       9,098   15 → 62",
        "",
        "mean ± standard deviation over seeds; steps, time a run: means; gradient reach:",
        "largest lag at which the gradient's norm is 1 % of its largest, before training",
        "and after it, of the 63 steps that the answer needs",
    ]


def test_numbers_of_seeds_that_differ_are_said(write_comparison) -> None:
    folder = write_comparison(labels=("lstm", "gru"))
    shutil.rmtree(folder / "gru" / "seed-2")
    assert printed(read_comparison(folder))[0].strip() == "digits: 2 to 3 seeds, chance 10.0 %"


def test_values_have_a_loss(write_comparison) -> None:
    lines = printed(read_comparison(write_comparison(task={"answer": "value"}, seeds=1)))
    assert any("test loss" in line for line in lines)
    gru = next(line for line in lines if line.strip().startswith("gru"))
    assert gru.split()[:9] == ["gru", "93.9", "%", "0.234", "1,000", "17", "s", "13,322", "20"]


def test_long_names_fold_within_80_columns(write_comparison, monkeypatch) -> None:
    folder = write_comparison(labels=("gru",))
    file = folder / "compare.json"
    long = "skip-rnn:engine=eager,hidden=128,lag=21,layers=2"
    file.write_text(file.read_text().replace('"label": "gru"', f'"label": "{long}"'))
    lines = printed(read_comparison(folder))
    assert max(map(len, lines)) <= 80
    first_column = "".join(line[:26].strip() for line in lines[4:8])
    assert long in first_column.replace(" ", "").lstrip("─")


@pytest.mark.parametrize(
    "label",
    [
        "skip-rnn:hidden=64,lag=21, batch_size=16",
        "lstm, truncated-bptt:every=50,window=150",
        "gru, gradient_propagation_form=paper, gradient_propagation=0.5",
        "lstm:initializer=" + "orthogonal_" * 5,
    ],
)
def test_labels_do_not_break_within_words(write_comparison, label: str) -> None:
    folder = write_comparison(labels=("gru",), task={"answer": "value"})
    file = folder / "compare.json"
    file.write_text(file.read_text().replace('"label": "gru"', f'"label": "{label}"'))
    lines = printed(read_comparison(folder))
    assert max(map(len, lines)) <= 80
    start = next(index for index, line in enumerate(lines) if "───" in line) + 1
    column = [re.split(r"  +", line.strip())[0] for line in lines[start : lines.index("", start)]]
    words = [re.findall(r"[a-z0-9.]+", text) for text in (" ".join(column), label)]
    assert words[0] == words[1]


def test_seeds_that_differ_and_runs_that_are_not_finished(write_comparison) -> None:
    folder = write_comparison(labels=("gru", "lstm"))
    (folder / "gru" / "seed-2" / "result.json").unlink()
    lines = printed(read_comparison(folder))
    assert lines[0] == "digits: 2 to 3 seeds, chance 10.0 %"
    assert lines[-1] == "1 run is not finished, and not in this table"


def test_markup_in_names_is_text(write_comparison) -> None:
    folder = write_comparison(labels=("gru",), task={"spec": "[red]digits[/red]"})
    assert printed(read_comparison(folder))[0].startswith("[red]digits[/red]: ")
