"""Progress, in a terminal and without one."""

import io
from pathlib import Path

from rich.console import Console

from throughtime.cli.progress import progress
from throughtime.studies import Done, Planned, StudyEvent, Waiting
from throughtime.training import Environment, Evaluated, Progress, Result, RunConfig, Started

CONFIG = RunConfig("digits", "lstm", steps=100)
ENVIRONMENT = Environment("0", "0", "0", "0", "0", "cpu", 1, [], None)
METRICS = {"loss": 1.2, "accuracy": 0.9}
RESULT = Result(
    "completed", 100, 12.0, 50, 0.0, {}, {"loss": 0.2, "accuracy": 0.945}, None, ENVIRONMENT
)
EVENTS = [
    StudyEvent("lstm", 0, Planned(100)),
    StudyEvent("[b]gru[/b]", 1, Planned(100)),
    StudyEvent("lstm", 0, Started(Path("x"), CONFIG, 0, 50)),
    StudyEvent("lstm", 0, Progress(40, 100, 1.234, 0.5, 0.1, 8.0)),
    StudyEvent(
        "lstm", 0, Evaluated(40, "validation", {"loss": 1.2, "accuracy": 0.9}, RESULT.metrics[0])
    ),
    StudyEvent("[b]gru[/b]", 1, Waiting()),
    StudyEvent("lstm", 0, Progress(50, 100, 1.111, 0.5, 0.1, 10.0)),
]


def shown(events: list[StudyEvent], *, terminal: bool, quiet: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80, legacy_windows=False)
    with progress(quiet=quiet, console=console) as observer:
        for event in events:
            observer(event)
        if terminal and not quiet:
            observer.display.refresh()  # pyright: ignore[reportFunctionMemberAccess]
    return stream.getvalue()


def test_plain_lines(monkeypatch) -> None:
    from throughtime.cli import progress as module

    monkeypatch.setattr(module, "_PLAIN_SECONDS", -1.0)
    assert shown([*EVENTS, StudyEvent("lstm", 0, Done(RESULT))], terminal=False).splitlines() == [
        "lstm, seed 0: started",
        "lstm, seed 0: step 40 of 100, loss 1.2340, 12 s left at most",
        "[b]gru[/b], seed 1: written by another process; waiting",
        "lstm, seed 0: step 50 of 100, loss 1.1110, accuracy 90.0 %, 10 s left at most",
        "lstm, seed 0: completed: test accuracy 94.5 %, 100 steps, 12 s (1 of 2 runs)",
    ]


def test_plain_lines_are_few() -> None:
    many = [StudyEvent("lstm", 0, Progress(k, 100, 1.0, 1.0, 0.1, 1.0)) for k in range(1, 100)]
    assert len(shown([*EVENTS[:3], *many], terminal=False).splitlines()) == 1


def test_live_line_of_each_run() -> None:
    text = Console(width=80).render_str(shown(EVENTS, terminal=True), markup=False).plain
    for part in ("lstm", "seed 0", "50/100", "loss 1.11", "acc 90.0 %", "10 s left", "0/2 runs"):
        assert part in text


def test_runs_that_go_on_say_where() -> None:
    events = [*EVENTS[:2], StudyEvent("lstm", 0, Started(Path("x"), CONFIG, 40, 50))]
    assert "lstm, seed 0: from step 40" in shown(events, terminal=True)
    assert "lstm, seed 0: from step 40" in shown(events, terminal=False)


def test_ended_runs_stay_above() -> None:
    text = shown([*EVENTS, StudyEvent("lstm", 0, Done(RESULT))], terminal=True)
    assert "completed: test accuracy 94.5 %, 100 steps, 12 s" in text
    assert "1/2 runs" in text


def test_quiet_shows_nothing() -> None:
    assert shown(EVENTS, terminal=True, quiet=True) == ""
    assert shown(EVENTS, terminal=False, quiet=True) == ""


def test_run_found_done_was_never_started() -> None:
    events = [*EVENTS[:2], StudyEvent("lstm", 0, Done(RESULT))]
    assert "94.5 %" in shown(events, terminal=True)
    assert "(1 of 2 runs)" in shown(events, terminal=False)
