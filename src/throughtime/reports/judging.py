"""The page on which a person judges two answers to each dialogue, and the table of judgements."""

import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from throughtime.core.errors import DataError
from throughtime.results.judgement import SCHEMA_VERSION, Answers, Preferences, Share


def render_judging(a: Answers, b: Answers, *, seed: int = 0, long: int | None = None) -> str:
    """Return the page as the text of one HTML file that needs no network and no server.

    The order of the contexts, and that of the two answers to each, are drawn at random. The names
    of the models are hidden until all are judged.

    Arguments:
        a, b: answers of two models to the same contexts.
        seed: seed of the orders.
        long: words of a context from which it is long; more than the median of all contexts if
            None.

    Raises:
        DataError: answers to other contexts or of another task, or of one model twice.
    """
    from throughtime.reports.page import templates  # loads jinja2 and plotly

    data = judging_data(a, b, seed=seed, long=long)
    return templates().get_template("judging.html").render(data=data, figures=None)


def judging_data(a: Answers, b: Answers, *, seed: int, long: int | None) -> dict[str, Any]:
    """Return the JSON values of the page.

    Arguments:
        a, b: answers of two models to the same contexts.
        seed: seed of the orders.
        long: words of a context from which it is long; more than the median if None.

    Raises:
        DataError: answers to other contexts or of another task, or of one model twice.
    """
    answers = {each.context: each.answer for each in b.answers}
    missing = sum(each.context not in answers for each in a.answers)
    if missing or len(answers) != len(a.answers):
        raise DataError(
            f"answers of {a.model} and of {b.model}",
            got=f"{len(a.answers)} and {len(answers)} contexts, {missing} of them without a pair",
            expected="the same contexts",
            fix="Answer those of the one file: throughtime judge FILE RUN.",
        )
    if a.task != b.task or a.model == b.model:
        raise DataError(
            "answers to be compared",
            got=f"{a.model} on {a.task}, {b.model} on {b.task}",
            expected="two models with different names, on one data set",
        )
    words = [sum(len(text.split()) for text in each.context) for each in a.answers]
    least = math.floor(statistics.median(words)) + 1 if long is None else long
    random = np.random.Generator(np.random.Philox(key=seed))
    coins = random.random(len(words)) < 0.5
    items = [
        {
            "context": number,
            "turns": list(each.context),
            "length": "long" if words[number] >= least else "short",
            "first": "a" if coins[number] else "b",
            "answers": {"a": each.answer, "b": answers[each.context]},
        }
        for number, each in enumerate(a.answers)
    ]
    order = random.random(len(items)).argsort(kind="stable").tolist()
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "a": a.model,
        "b": b.model,
        "task": a.task,
        "seed": seed,
        "items": [items[k] for k in order],
    }
    # votes are kept in the browser for this very page
    digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()
    return {**data, "key": f"throughtime-judge-{digest[:16]}"}


def preference_table(rows: Sequence[Preferences]) -> Table:
    """Return wins, losses and ties in percent with their 90 % intervals, for the terminal.

    Arguments:
        rows: the preferences.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("models", "contexts"):
        table.add_column(name)
    for name in ("votes", "wins", "losses", "ties"):
        table.add_column(name, justify="right", no_wrap=True)
    before = ("", "", "")
    for row in rows:
        names = row.a, row.b, row.task
        shown = "" if names == before else f"{row.a} vs {row.b} on {row.task}"
        shares = (percent(each) for each in (row.wins, row.losses, row.ties))
        table.add_row(shown, row.length, str(row.votes), *shares)
        before = names
    table.caption = "percent of the votes ± the half width of the 90 % interval"
    return table


def percent(given: Share) -> str:
    """Return a share in percent with its interval.

    Arguments:
        given: the share.

    Example:
        >>> percent(Share(0.323, 0.0243))
        '32.3 ± 2.4'
    """
    return f"{100 * given.share:.1f} ± {100 * given.half_width:.1f}"
