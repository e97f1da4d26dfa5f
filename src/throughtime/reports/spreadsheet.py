"""A comparison as CSV: one row a model, or one row a run."""

import csv
import io
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from throughtime.reports.numbers import plain
from throughtime.results.comparison import Comparison

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Signs with which spreadsheets take a text for a formula."""


def model_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The table of a comparison, one row a model, with the settings that differ.

    Arguments:
        comparison: the models and their runs.
    """
    rows: list[dict[str, Any]] = []
    for model in comparison.models:
        accuracy, loss = model.test("accuracy"), model.test("loss")
        start, trained = model.reach("start"), model.reach("trained")
        n = len(model.runs)
        rows.append(
            {
                "model": model.label,
                "spec": model.spec,
                "test accuracy, mean": accuracy and accuracy.mean,
                "test accuracy, standard deviation": accuracy and accuracy.deviation,
                "test loss, mean": loss and loss.mean,
                "test loss, standard deviation": loss and loss.deviation,
                "seeds": n,
                "diverged": n - len(model.finished),
                "solved on validation": sum(run.status == "solved" for run in model.runs),
                **{name: _setting(model.settings.get(name)) for name in comparison.differing},
                "steps done, mean": sum(run.step for run in model.runs) / n,
                "seconds, mean": sum(run.seconds for run in model.runs) / n,
                "parameters": model.runs[0].parameters,
                "gradient reach before training, mean": start and start.mean,
                "gradient reach after training, mean": trained and trained.mean,
            }
        )
    return rows


def run_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The runs of a comparison, one row a run, with the settings that differ.

    Arguments:
        comparison: the models and their runs.
    """
    return [
        {
            "model": model.label,
            "spec": model.spec,
            "seed": run.seed,
            "status": run.status,
            "test accuracy": run.test and run.test["accuracy"],
            "test loss": run.test and run.test["loss"],
            **{name: _setting(model.settings.get(name)) for name in comparison.differing},
            "steps done": run.step,
            "seconds": run.seconds,
            "parameters": run.parameters,
            "gradient reach before training": run.gradient and run.gradient["start"].reach,
            "gradient reach after training": run.gradient and run.gradient["trained"].reach,
        }
        for model in comparison.models
        for run in model.runs
    ]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV after RFC 4180, with a heading; None is an empty cell.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.

    Arguments:
        rows: with the same keys each.

    Example:
        >>> csv_text([{"model": "=1+1", "loss": -0.5}])
        "model,loss\\r\\n'=1+1,-0.5\\r\\n"
    """
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(map(_safe, rows[0]))
    writer.writerows([_safe(value) for value in row.values()] for row in rows)
    return stream.getvalue()


def csv_link(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV in a `data:` address.

    Arguments:
        rows: with the same keys each.
    """
    return f"data:text/csv;charset=utf-8,{urllib.parse.quote(csv_text(rows), safe='')}"


def _setting(value: object) -> object:
    """A number as it is, anything else as text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number else plain(value)


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
