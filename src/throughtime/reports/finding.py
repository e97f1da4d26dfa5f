"""The result of a comparison in words: no more than its seeds show."""

import statistics
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from throughtime.reports.numbers import count, listed, percent, percent_spread
from throughtime.results.comparison import Comparison, ModelRuns, Spread

_Scored: TypeAlias = tuple[ModelRuns, Spread]


def finding(comparison: Comparison) -> str:
    """The result in a few short sentences.

    A model is called best only where it has two seeds or more, and the lowest of its test
    accuracies is above the highest of every other model. Otherwise the models at the top are said
    to be tied, or not to be separated, or to have one seed. Where runs end once the task is solved,
    the models that solve it with every seed come first; a run is solved on the validation split,
    and the sentence says so. Runs that diverged are counted.

    Arguments:
        comparison: the models and their runs.
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
    if scored and not _at_chance(comparison, scored) and _is_best(scored):
        told = "★: each seed of the model has a higher test accuracy than all seeds of the others."
        return frozenset({scored[0][0].label}), told
    return frozenset(), "No model has a star, because no model has all its seeds above the others."


def _sentences(comparison: Comparison) -> Iterator[str]:
    task, scored, solvers = comparison.task, _scored(comparison), _solvers(comparison)
    if not scored:
        yield f"Every run on {task.spec} diverged"
        return
    if solvers:
        yield from _solved(comparison, solvers)
    elif _at_chance(comparison, scored):
        best, highest = max(scored, key=lambda pair: pair[1].high)
        yield (
            f"No run on {task.spec} is more than 1 point above chance ({percent(task.chance)}): "
            f"the highest test accuracy is {percent(highest.high)}, of {best.label}"
        )
    elif len(scored) == 1:
        model, score = scored[0]
        yield (
            f"{model.label} gives {percent_spread(score)} right test answers on {task.spec} "
            f"({_seeds(score.n)}; chance is {percent(task.chance)}){_reach(comparison, model)}"
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
    chance = f"chance is {percent(task.chance)}"
    leaders = [scored[0], *(pair for pair in scored[1:] if not _separated(top, pair[1]))]
    labels = listed([model.label for model, _ in leaders])
    if top.n == 1:
        tied = [model.label for model, score in scored if score.n == 1 and score.mean == top.mean]
        yield (
            f"{listed(tied)} {'has' if len(tied) == 1 else 'tie for'} the most right test answers "
            f"on {task.spec}: {percent(top.mean)} (one seed; {chance})"
        )
        yield "One seed does not show that one model is better than another"
    elif len(leaders) == 1:
        yield (
            f"{best.label} does best on {task.spec}: {percent_spread(top)} of its test answers are "
            f"right ({top.n} seeds; {chance})"
        )
        yield "Each of its seeds is above all seeds of the others"
        single = [model.label for model, score in scored if score.n == 1]
        if single:
            yield f"{listed(single)} {'has' if len(single) == 1 else 'have'} one seed"
    elif all(score.low == score.high == top.mean for _, score in leaders):
        yield (
            f"{labels} tie on {task.spec}: every seed gives {percent(top.mean)} right test answers "
            f"({_seeds_of(leaders)}; {chance})"
        )
    else:
        shown = listed([f"{model.label} ({percent_spread(score)})" for model, score in leaders])
        yield f"{shown} give the most right test answers on {task.spec} ({chance})"
        yield f"They are not separated: their seeds overlap ({_seeds_of(leaders)})"
    last, lowest = scored[-1]
    others = scored[:-1]
    if len(others) > 1 and all(_separated(score, lowest) for _, score in others):
        yield f"{last.label} comes last with {percent_spread(lowest)}" + _reach(comparison, last)


def _solved(comparison: Comparison, solvers: Sequence[ModelRuns]) -> Iterator[str]:
    """Which models solve the task, after how many steps, and what the others do."""
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
        accuracy = percent_spread(model.test("accuracy"))
        yield (
            f"{model.label} solves it with {solved} of {_seeds(len(model.runs))}"
            if solved
            else f"{model.label} does not solve it: {accuracy} of its test answers are right"
        )


def _scored(comparison: Comparison) -> list[_Scored]:
    """Models with their test accuracies, the highest mean first."""
    scored = [(model, score) for model in comparison.models if (score := model.test("accuracy"))]
    return sorted(scored, key=lambda pair: pair[1].mean, reverse=True)


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
    return max(score.high for _, score in scored) <= comparison.task.chance + 0.01


def _is_best(scored: Sequence[_Scored]) -> bool:
    return len(scored) > 1 and all(_separated(scored[0][1], other) for _, other in scored[1:])


def _separated(above: Spread, below: Spread) -> bool:
    """True where several seeds are all above those of the other model."""
    return above.n > 1 and above.low > below.high


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
