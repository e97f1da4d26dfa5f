"""A comparison as text: its finding, no more than the seeds show; its table, at 80 columns; CSV."""

import csv
import io
import re
import statistics
import textwrap
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from throughtime.core.scoring import Metric
from throughtime.reports.numbers import (
    count,
    listed,
    mean_count,
    mean_duration,
    metric,
    metric_mean,
    metric_spread,
    plain,
    reach_change,
)
from throughtime.results.comparison import Comparison, ModelRuns, Spread, TaskFacts

_Scored: TypeAlias = tuple[ModelRuns, Spread]


def finding(comparison: Comparison) -> str:
    """Return the result in a few short sentences.

    A model is called best only where it has two seeds or more, and the lowest of its test
    accuracies is above the highest of every other model. Otherwise the models at the top are
    called tied, or not separated, or models with one seed. Where runs end once the task is solved,
    the models that solve it with every seed come first; the sentence names the validation split,
    on which a run is solved. Runs that diverged are counted.
    """
    comparison = comparison.in_short
    return " ".join(f"{sentence}." for sentence in _sentences(comparison))


def starred(comparison: Comparison) -> tuple[frozenset[str], str]:
    """The models with a star in the table, and the meaning of the star, or of its absence.

    Arguments:
        comparison: the models and their runs.

    Returns:
        Labels, as those of `comparison.models`, and a sentence; both empty for a single model.
    """
    if len(comparison.models) == 1:
        return frozenset(), ""
    solvers = _solvers(comparison)
    if solvers:
        told = "★: every seed of the model solves the task on the validation split."
        return frozenset(model.label for model in solvers), told
    scored = _scored(comparison)
    if scored and not _at_chance(comparison, scored) and _is_best(scored, comparison.task.headline):
        headline = comparison.task.headline
        told = (
            f"★: each seed of the model has a {headline.better} test {headline.title} than all "
            "seeds of the others."
        )
        return frozenset({scored[0][0].label}), told
    return frozenset(), "No model has a star, because no model has all its seeds above the others."


def _sentences(comparison: Comparison) -> Iterator[str]:
    task, scored, solvers = comparison.task, _scored(comparison), _solvers(comparison)
    headline = task.headline
    if not scored:
        yield f"Every run on {task.spec} diverged"
        return
    if solvers:
        yield from _solved(comparison, solvers)
    elif _at_chance(comparison, scored):
        higher = headline.better == "higher"
        best, top = (max if higher else min)(scored, key=lambda pair: _extreme(headline, pair[1]))
        margin = "1 point above" if higher else "1 % below"
        yield (
            f"No run on {task.spec} is more than {margin} chance "
            f"({metric(headline, headline.chance)}): the {'highest' if higher else 'lowest'} test "
            f"{headline.title} is {metric(headline, _extreme(headline, top))}, of {best.label}"
        )
    elif len(scored) == 1:
        model, score = scored[0]
        yield (
            f"{model.label} gives {_amount(headline, metric_spread(headline, score))} on "
            f"{task.spec} ({_seeds(score.n)}; {_chance(headline)}){_reach(comparison, model)}"
        )
        only = len(comparison.models) == 1
        yield "There is no other model" if only else "No other model has a run that did not diverge"
    else:
        yield from _contest(comparison, scored)
    lost = [
        f"{lost} of {len(model.runs)} runs of {model.label}"
        for model in comparison.models
        if (lost := len(model.runs) - len(model.finished))
    ]
    if lost:
        yield f"{listed(lost)} diverged"


def _contest(comparison: Comparison, scored: Sequence[_Scored]) -> Iterator[str]:
    task, (best, top) = comparison.task, scored[0]
    headline, chance = task.headline, _chance(task.headline)
    leaders = [scored[0], *(pair for pair in scored[1:] if not _separated(top, pair[1], headline))]
    labels = listed([model.label for model, _ in leaders])
    if top.n == 1:
        tied = [model.label for model, score in scored if score.n == 1 and score.mean == top.mean]
        yield (
            f"{listed(tied)} {'has' if len(tied) == 1 else 'tie for'} {_superlative(headline)} "
            f"on {task.spec}: {metric(headline, top.mean)} (one seed; {chance})"
        )
        yield "One seed does not show that one model is better than another"
    elif len(leaders) == 1:
        yield (
            f"{best.label} does best on {task.spec}: "
            f"{_clause(headline, metric_spread(headline, top))} ({top.n} seeds; {chance})"
        )
        side = "above" if headline.better == "higher" else "below"
        yield f"Each of its seeds is {side} all seeds of the others"
        single = [model.label for model, score in scored if score.n == 1]
        if single:
            yield f"{listed(single)} {'has' if len(single) == 1 else 'have'} one seed"
    elif all(score.low == score.high == top.mean for _, score in leaders):
        yield (
            f"{labels} tie on {task.spec}: every seed gives "
            f"{_amount(headline, metric(headline, top.mean))} ({_seeds_of(leaders)}; {chance})"
        )
    else:
        shown = listed([f"{m.label} ({metric_spread(headline, score)})" for m, score in leaders])
        yield f"{shown} give {_superlative(headline)} on {task.spec} ({chance})"
        yield f"They are not separated: their seeds overlap ({_seeds_of(leaders)})"
    last, lowest = scored[-1]
    others = scored[:-1]
    if len(others) > 1 and all(_separated(score, lowest, headline) for _, score in others):
        value = metric_spread(headline, lowest)
        yield f"{last.label} comes last with {value}{_reach(comparison, last)}"


def _solved(comparison: Comparison, solvers: Sequence[ModelRuns]) -> Iterator[str]:
    """Yield the models that solve the task, their steps, and the results of the others."""
    solvers = sorted(solvers, key=_mean_steps)
    after = [count(_mean_steps(model)) for model in solvers]
    counts = {len(model.runs) for model in solvers}
    many = counts != {1}
    words = {1: "one seed", 2: "both seeds"}
    seeds = " or ".join(words.get(n, f"all {n} seeds") for n in sorted(counts))
    yield (
        f"{listed([m.label for m in solvers])} {'solve' if len(solvers) > 1 else 'solves'} "
        f"{comparison.task.spec} on the validation split with {seeds}, after {listed(after)} steps"
        + (" on average" if many else "")
    )
    if len(solvers) > 1:
        first, *later = ([run.step for run in model.runs] for model in solvers)
        if len(first) > 1 and all(max(first) < min(steps) for steps in later):
            yield f"{solvers[0].label} is soonest with each of its seeds"
        elif many:
            yield "The seeds do not show which of them is soonest"
        else:
            yield "One seed does not show which of them is soonest"
    for model in comparison.models:
        if model in solvers or not model.finished:
            continue
        solved = _solved_runs(model)
        headline = comparison.task.headline
        score = metric_spread(headline, model.test(headline.name))
        yield (
            f"{model.label} solves it with {solved} of {_seeds(len(model.runs))}"
            if solved
            else f"{model.label} does not solve it: {_clause(headline, score)}"
        )


def _scored(comparison: Comparison) -> list[_Scored]:
    """Return the models with the spread of their headline, the best mean first."""
    headline = comparison.task.headline
    scored = [(m, score) for m in comparison.models if (score := m.test(headline.name))]
    return sorted(scored, key=lambda pair: pair[1].mean, reverse=headline.better == "higher")


def _extreme(headline: Metric, score: Spread) -> float:
    return score.high if headline.better == "higher" else score.low


def _chance(headline: Metric) -> str:
    return f"chance is {metric(headline, headline.chance)}"


def _solvers(comparison: Comparison) -> list[ModelRuns]:
    """Models that solve the task with every seed, where runs end once they do."""
    if not all(run.config["stop_when_solved"] for run in comparison.runs):
        return []
    return [model for model in comparison.models if _solved_runs(model) == len(model.runs)]


def _solved_runs(model: ModelRuns) -> int:
    return sum(run.status == "solved" for run in model.runs)


def _mean_steps(model: ModelRuns) -> float:
    return statistics.fmean(run.step for run in model.runs)


def _at_chance(comparison: Comparison, scored: Sequence[_Scored]) -> bool:
    headline = comparison.task.headline
    if headline.chance is None:
        return False
    if headline.better == "higher":
        return max(score.high for _, score in scored) <= headline.chance + 0.01
    return min(score.low for _, score in scored) >= 0.99 * headline.chance


def _is_best(scored: Sequence[_Scored], headline: Metric) -> bool:
    first, *others = (score for _, score in scored)
    return bool(others) and all(_separated(first, other, headline) for other in others)


def _separated(best: Spread, other: Spread, headline: Metric) -> bool:
    """Return True if several seeds are all better than those of the other model."""
    if headline.better == "higher":
        return best.n > 1 and best.low > other.high
    return best.n > 1 and best.high < other.low


def _amount(headline: Metric, text: str) -> str:
    """Return a value of the headline as the object of "gives"."""
    if headline.name == "accuracy":
        return f"{text} right test answers"
    return f"{text} test {headline.title}"


def _clause(headline: Metric, text: str) -> str:
    """Return a value of the headline as a clause of its own."""
    if headline.name == "accuracy":
        return f"{text} of its test answers are right"
    return f"{text} test {headline.title}"


def _superlative(headline: Metric) -> str:
    if headline.name == "accuracy":
        return "the most right test answers"
    return f"the {headline.better.replace('er', 'est')} test {headline.title}"


def _reach(comparison: Comparison, model: ModelRuns) -> str:
    reach, due = model.reach("start"), comparison.task.dependency_length
    if reach is None or reach.mean >= due:
        return ""
    return (
        f"; before training its gradient reaches back {count(reach.mean)} of the {count(due)} "
        "steps needed"
    )


def _seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds"


def _seeds_of(models: Sequence[_Scored]) -> str:
    """The numbers of seeds of several models: "3 seeds each", "lstm 3 seeds, gru one seed"."""
    if len({score.n for _, score in models}) == 1:
        return f"{_seeds(models[0][1].n)} each"
    return ", ".join(f"{model.label} {_seeds(score.n)}" for model, score in models)


_WIDTH, _LABEL_WIDTH = 80, 24
_NARROW = 9  # of a heading where a task has several: that of "test loss"


def comparison_table(comparison: Comparison) -> Group:
    """A line for each model: headline with spread, steps, time, parameters, gradient reach."""
    comparison, only = comparison.in_short, comparison.only_model
    task = comparison.task
    seeds = comparison.seeds
    chance = metric(task.headline, task.headline.chance)
    runs = f"{seeds} seed{'' if seeds == '1' else 's'}, chance {chance}"
    heading = Text.assemble((task.spec, "bold"), f": {f'{only}, ' if only else ''}{runs}")
    note = Text("mean ± standard deviation over seeds; steps, time a run: means", style="dim")
    measured = any(run.gradient is not None for run in comparison.runs)
    if measured:
        note.append(
            "; gradient reach: largest lag at which the gradient's norm is 1 % of its largest, "
            "before training and after it, of "
            f"the {count(task.dependency_length)} steps that the answer needs"
        )
    if comparison.names_settings:
        note.append("; after a model's name: the settings that differ from its first line")
    if comparison.unfinished:
        verb = "run is" if comparison.unfinished == 1 else "runs are"
        note.append(f"\n{count(comparison.unfinished)} {verb} not finished, and not in this table")
    columns = [f"test {each.title}" for each in (task.headline, *task.others)]
    if task.others:
        columns = [textwrap.fill(c, _NARROW, break_long_words=False) for c in columns]
    columns += ["steps", "time", "parameters"]
    rows = [_cells(model, task) for model in comparison.models]
    if measured:
        columns.append("gradient\nreach")
        for model, row in zip(comparison.models, rows, strict=True):
            row.append(Text(reach_change(model.reach("start"), model.reach("trained"))))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("model", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    texts = zip(columns, *([cell.plain for cell in row] for row in rows), strict=True)
    widths = [max(map(len, "\n".join(column).split("\n"))) for column in texts]
    left = _WIDTH - 3 - sum(width + 2 for width in widths)
    for model, row in zip(comparison.models, rows, strict=True):
        label = broken(model.label, min(_LABEL_WIDTH, left))
        table.add_row(Text(label, style="bold"), *row)
    return Group(heading, table, note)


def broken(label: str, width: int) -> str:
    """Return a label on several lines, broken after commas and colons.

    A part that is still too wide is broken after an equals sign, a hyphen or an underscore, never
    within a word.

    Example:
        >>> print(broken("skip-rnn:hidden=64,lag=21", 24))
        skip-rnn:hidden=64,
        lag=21
    """
    parts: list[str] = []
    for part in re.findall(r"[^,:]+[,:]* ?", label):
        narrow = len(part.rstrip()) <= width
        parts += [part] if narrow else re.findall(r"[^=_-]*[=_-]+|[^=_-]+", part)
    lines = [""]
    for part in parts:
        if len((lines[-1] + part).rstrip()) <= width or not lines[-1]:
            lines[-1] += part
        else:
            lines.append(part)
    return "\n".join(line.rstrip() for line in lines)


def _cells(model: ModelRuns, task: TaskFacts) -> list[Text]:
    headline = metric_spread(task.headline, model.test(task.headline.name))
    lost = len(model.runs) - len(model.finished)
    return [
        Text.assemble(headline, (f"\n{lost} of {len(model.runs)} diverged", "red"))
        if lost
        else Text(headline),
        *(Text(metric_mean(each, model.test(each.name))) for each in task.others),
        Text(mean_count(run.step for run in model.runs)),
        Text(mean_duration(run.seconds for run in model.runs)),
        Text(count(model.runs[0].parameters)),
    ]


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Signs at the start of a text that make it a formula in spreadsheets."""


def model_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The table of a comparison, one row a model, with the settings that differ."""
    rows: list[dict[str, Any]] = []
    for model in comparison.models:
        start, trained = model.reach("start"), model.reach("trained")
        n = len(model.runs)
        rows.append(
            {
                "model": model.label,
                "spec": model.spec,
                **_spreads(model, comparison.task),
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


def _told(task: TaskFacts) -> dict[str, str]:
    """Return the test metrics of all runs with their titles: the headline, the loss, the others."""
    titles = {each.name: each.title for each in task.metrics}
    return {task.headline.name: task.headline.title, "loss": "loss", **titles}


def _spreads(model: ModelRuns, task: TaskFacts) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, title in _told(task).items():
        value = model.test(name)
        found[f"test {title}, mean"] = value and value.mean
        found[f"test {title}, standard deviation"] = value and value.deviation
    return found


def run_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The runs of a comparison, one row a run, with the settings that differ."""
    told = _told(comparison.task)
    return [
        {
            "model": model.label,
            "spec": model.spec,
            "seed": run.seed,
            "status": run.status,
            **{f"test {title}": run.test and run.test.get(name) for name, title in told.items()},
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

    A text that would be a formula in a spreadsheet gets an apostrophe in front.

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
    """Rows as CSV in a `data:` address."""
    return f"data:text/csv;charset=utf-8,{urllib.parse.quote(csv_text(rows), safe='')}"


def _setting(value: object) -> object:
    """Return a number unchanged, anything else as text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number else plain(value)


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
