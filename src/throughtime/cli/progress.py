"""Progress of runs, live in a terminal and as plain lines elsewhere; always on stderr."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from throughtime.cli.output import error_console
from throughtime.reports.numbers import count, duration, ending, metric
from throughtime.studies import Done, Planned, StudyEvent, StudyObserver, Waiting
from throughtime.training import Evaluated, Result, Started
from throughtime.training import Progress as Updates

_PLAIN_SECONDS = 10.0
"""Between two lines of a run that goes on, where there is no terminal."""


@contextlib.contextmanager
def progress(*, quiet: bool, console: Console | None = None) -> Iterator[StudyObserver]:
    """An observer that shows the progress of runs until the block ends."""
    console = console if console is not None else error_console()
    if quiet:
        yield _silent
    elif console.is_terminal:
        live = _LiveLines(console)
        with live.display:
            yield live
    else:
        yield _PlainLines(console)


def _silent(event: StudyEvent) -> None:
    del event


def _ended(result: Result) -> str:
    """The end of a run, in a few words."""
    steps = f"{count(result.step)} steps, {duration(result.seconds)}"
    if result.diverged is not None or result.test is None:
        return f"diverged after {steps}"
    headline = result.metrics[0]
    value = metric(headline, result.test[headline.name])
    return f"{ending(result.status)}: test {headline.title} {value}, {steps}"


def _headline(event: Evaluated) -> str:
    """Return name and value of the headline metric."""
    name = event.headline.name
    return f"{event.headline.title} {metric(event.headline, event.metrics[name])}"


def _run_name(event: StudyEvent) -> str:
    return f"{event.label}, seed {event.seed}"


@final
class _PlainLines:
    """A line when a run starts, now and then while it goes on, and when it ends."""

    def __init__(self, console: Console):
        self.console = console
        self.planned = self.done = 0
        self.shown: dict[str, float] = {}
        self.headline: dict[str, str] = {}

    def __call__(self, event: StudyEvent) -> None:
        name, what = _run_name(event), event.event
        if isinstance(what, Planned):
            self.planned += 1
        elif isinstance(what, Started):
            self._print(name, f"from step {count(what.step)}" if what.step else "started")
        elif isinstance(what, Waiting):
            self._print(name, "written by another process; waiting")
        elif isinstance(what, Evaluated) and what.split == "validation":
            self.headline[name] = f", {_headline(what)}"
        elif isinstance(what, Updates) and time.monotonic() - self.shown[name] > _PLAIN_SECONDS:
            left = duration(what.seconds / what.step * (what.steps - what.step))
            headline = self.headline.get(name, "")
            self._print(
                name,
                f"step {count(what.step)} of {count(what.steps)}, loss {what.loss:.4f}{headline}, "
                f"{left} left at most",
            )
        elif isinstance(what, Done):
            self.done += 1
            self._print(name, f"{_ended(what.result)} ({self.done} of {self.planned} runs)")

    def _print(self, name: str, text: str) -> None:
        self.shown[name] = time.monotonic()
        self.console.print(f"{name}: {text}", markup=False, soft_wrap=True)


@final
class _Narrower:
    """Not as wide as the terminal, so that its echo of Ctrl-C does not begin a new line."""

    def __init__(self, content: RenderableType):
        self.content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        return console.render(self.content, options.update_width(options.max_width - 3))


@final
class _Display(Progress):
    def get_renderables(self) -> Iterator[RenderableType]:
        return map(_Narrower, super().get_renderables())


@final
class _LiveLines:
    """A line for each run that goes on, below those of the runs that have ended."""

    def __init__(self, console: Console):
        self.display = _Display(
            TextColumn(
                "{task.fields[name]}",
                style="bold",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=20),
            ),
            TextColumn("{task.fields[seed]}", style="bold"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[steps]}", justify="right"),
            TextColumn("{task.fields[loss]}", justify="right"),
            TextColumn("{task.fields[headline]}", justify="right"),
            TextColumn("{task.fields[left]}", justify="right", style="dim"),
            console=console,
            transient=True,
            expand=True,
            refresh_per_second=8,
        )
        self.planned = self.done = 0
        self.began = time.monotonic()
        self.lines: dict[str, TaskID] = {}
        self.fraction: dict[str, float] = {}  # of each run, done
        self.before: dict[str, float] = {}  # of each run, done before this command
        self.total = self._line("all runs")

    def __call__(self, event: StudyEvent) -> None:
        name, what = _run_name(event), event.event
        if isinstance(what, Planned):
            self.planned += 1
        elif isinstance(what, Started):
            self.before[name] = self.fraction[name] = what.step / what.config.steps
            if what.step:
                self.display.console.print(Text(f"{name}: from step {count(what.step)}"))
            self.lines[name] = self._line(
                event.label, f"seed {event.seed}", f"{count(what.step)}/{count(what.config.steps)}"
            )
        elif isinstance(what, Updates):
            self.fraction[name] = what.step / what.steps
            self.display.update(
                self.lines[name],
                completed=self.fraction[name],
                steps=f"{count(what.step)}/{count(what.steps)}",
                loss=f"loss {what.loss:.3g}",
                left=f"{duration(what.seconds / what.step * (what.steps - what.step))} left",
            )
        elif isinstance(what, Evaluated) and what.split == "validation":
            self.display.update(
                self.lines[name], headline=_headline(what).replace("accuracy", "acc")
            )
        elif isinstance(what, Waiting):
            self.display.console.print(Text(f"{name}: written by another process; waiting"))
        elif isinstance(what, Done):
            self.done += 1
            self.fraction[name] = 1.0
            self.before.setdefault(name, 1.0)
            if name in self.lines:
                self.display.remove_task(self.lines.pop(name))
            self.display.console.print(Text.assemble((name, "bold"), f": {_ended(what.result)}"))
        self._show_total()

    def _line(self, name: str, seed: str = "", steps: str = "") -> TaskID:
        return self.display.add_task(
            "", total=1.0, name=name, seed=seed, steps=steps, loss="", headline="", left=""
        )

    def _show_total(self) -> None:
        done = sum(self.fraction.values())
        gained = done - sum(self.before.values())
        left = "starting"
        if gained > 0.02:
            seconds = (time.monotonic() - self.began) * (self.planned - done) / gained
            left = f"{duration(seconds)} left"
        self.display.update(
            self.total,
            visible=self.planned > 1,
            completed=done / max(self.planned, 1),
            steps=f"{self.done}/{self.planned} runs",
            left=left,
        )
