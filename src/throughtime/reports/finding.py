"""One sentence that says what a comparison found: only what was measured."""

from throughtime.reports.comparison import Comparison, ModelRuns, Spread
from throughtime.reports.numbers import count, listed, percent, percent_spread


def finding(comparison: Comparison) -> str:
    """One sentence: which model did best, by how much, and how far the last one is behind.

    Models whose test accuracies over seeds overlap with the best one's are named, since these runs
    do not settle the order among them. Runs that diverged are counted.
    """
    comparison = comparison.in_short
    scored = [(model, score) for model in comparison.models if (score := model.test("accuracy"))]
    task = comparison.task.spec
    if not scored:
        return f"Every run on {task} diverged."
    scored.sort(key=lambda pair: pair[1].mean, reverse=True)
    stops = all(run.config["stop_when_solved"] for run in comparison.runs)
    winners = [m for m in comparison.models if stops and _solved(m) == len(m.runs)]
    if winners:
        said = _solvers(comparison, winners)
    elif scored[0][1].high <= comparison.task.chance:
        model, score = scored[0]
        said = (
            f"No model does better than chance ({percent(comparison.task.chance)}) on {task}: "
            f"the best, {model.label}, gets {percent_spread(score)} of the test answers right"
        )
    else:
        said = _best(comparison, scored)
    return said + _diverged(comparison) + "."


def _best(comparison: Comparison, scored: list[tuple[ModelRuns, Spread]]) -> str:
    best, score = scored[0]
    seeds = "one seed" if score.n == 1 else f"{score.n} seeds"
    said = (
        f"{best.label} does best on {comparison.task.spec}: "
        f"{percent_spread(score)} of its test answers are right "
        f"({seeds}; chance is {percent(comparison.task.chance)})"
    )
    rivals = [
        model.label for model, other in scored[1:-1] if score.n > 1 and other.high >= score.low
    ]
    if rivals:
        said += f", though the seeds of {listed(rivals)} overlap with it"
    if len(scored) > 1:
        said += f"; {_last(comparison, *scored[-1])}"
    return said


def _last(comparison: Comparison, model: ModelRuns, score: Spread) -> str:
    said = f"{model.label} comes last with {percent_spread(score)}"
    reach, due = model.reach("start"), comparison.task.dependency_length
    if reach is not None and reach.mean < due:
        said += (
            f"; before training its gradient reaches back {count(reach.mean)} of the "
            f"{count(due)} steps needed"
        )
    return said


def _solvers(comparison: Comparison, winners: list[ModelRuns]) -> str:
    labels = [model.label for model in winners]
    steps = {m.label: sum(run.step for run in m.runs) / len(m.runs) for m in winners}
    soonest = min(labels, key=lambda label: steps[label])
    seeds = len(winners[0].runs)
    said = f"{listed(labels)} solve{'s' if len(labels) == 1 else ''} {comparison.task.spec}"
    said += " (one seed)" if seeds == 1 else f" with each of {seeds} seeds"
    when = f"after {count(steps[soonest])} steps" + (" on average" if seeds > 1 else "")
    said += f", {soonest} soonest, {when}" if len(labels) > 1 else f", {when}"
    others = [
        f"{model.label} solves it with {_solved(model)} of {len(model.runs)}"
        if _solved(model)
        else f"{model.label} stays at {percent_spread(model.test('accuracy'))}"
        for model in comparison.models
        if model not in winners and model.finished
    ]
    return said + (f"; {listed(others)}" if others else "")


def _solved(model: ModelRuns) -> int:
    return sum(run.status == "solved" for run in model.runs)


def _diverged(comparison: Comparison) -> str:
    counts = [
        f"{lost} of {len(model.runs)} runs of {model.label}"
        for model in comparison.models
        if (lost := len(model.runs) - len(model.finished))
    ]
    return f"; {listed(counts)} diverged" if counts else ""
