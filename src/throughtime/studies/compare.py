"""Models on one task, several seeds each, trained side by side."""

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, final

from throughtime.core.errors import RunError, RunInterrupted
from throughtime.reports import read_comparison
from throughtime.results import Comparison
from throughtime.results.atomic import writing
from throughtime.studies.plan import Plan, PlannedRun, configuration, make_plan, placed, read_study
from throughtime.studies.request import CompareRequest
from throughtime.studies.worker import (
    Done,
    Outcome,
    Planned,
    StudyEvent,
    StudyObserver,
    Waiting,
    perform,
    perform_in_worker,
    start_worker,
)
from throughtime.training import RunFolder, write_json
from throughtime.training.dynamic_evaluation import dynamic_metrics

_LOOK_SECONDS = 0.1
_RETRY_SECONDS = 2.0


def compare(
    request: CompareRequest,
    out: str | Path,
    observer: StudyObserver | None = None,
    *,
    allow_mismatch: bool = False,
) -> Comparison:
    """Train every model with every seed, measure each, and report all that is in the folder.

    The same call goes on with what an interrupted or killed one left, run by run, and trains
    nothing that is finished. A call with more seeds or models, or with other settings, adds runs to
    the same folder: each configuration has a folder of its own in it.

    With several jobs, runs are spread over worker processes, which import the main module: a script
    that calls this needs `if __name__ == "__main__":`. The results are the same to the bit as with
    one job of as many threads. Two comparisons may share a folder: no run is written by both.

    Arguments:
        request: models, task and settings.
        out: folder of the results: compare.json, a folder a configuration and in it one a run,
            report.html.
        observer: function that takes the events of `studies.worker`.
        allow_mismatch: go on with runs of other versions or engines, as `training.train` does.

    Returns:
        All finished runs of the folder, as `reports.read_comparison` reads them back.

    Raises:
        ConfigurationError, UnknownNameError: the request cannot be met; nothing is written.
        DataError: the task's data are missing or not whole.
        RunMismatchError: the folder holds a comparison on another task.
        RunError: a run's folder cannot be used, or a worker process died.
        RunInterrupted: Ctrl-C; all is saved.
    """
    from throughtime.reports.page import write_report

    out = Path(out)
    plan = make_plan(request)
    with _alone(out):
        plan = placed(plan, out)
        _write_study(request, plan, out)
    notify = observer if observer is not None else _ignore
    for run in plan.runs:
        notify(StudyEvent(run.label, run.config.seed, Planned(run.config.steps)))
    study = _Study(plan, out, notify, allow_mismatch)
    try:
        study.recall()
        if plan.jobs == 1:
            study.one_by_one()
        else:
            study.side_by_side()
    except (KeyboardInterrupt, RunInterrupted):
        raise RunInterrupted(
            f"{out} was interrupted with {len(study.done)} of {len(plan.runs)} runs done",
            fix="All is saved: the same call or command goes on from there.",
        ) from None
    except BrokenProcessPool as error:
        raise RunError(
            "a worker process died",
            got=str(error),
            fix="The same call or command goes on from the last checkpoints; if memory ran short, "
            "with fewer jobs.",
        ) from error
    with _alone(out):
        _write_study(request, plan, out)  # again: the latest request is that of the latest report
        comparison = read_comparison(out)
        write_report(comparison)
    return comparison


def _ignore(event: StudyEvent) -> None:
    pass


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Wait until no other comparison reads or writes the files that it shares with this one."""
    import filelock

    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / "lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write_study(request: CompareRequest, plan: Plan, out: Path) -> None:
    """Add the plan's configurations to those that compare.json has."""
    task, study, command = plan.task, read_study(out), request.command(out)
    before = study.get("commands", [study["command"]] if study else [])
    noted: dict[str, dict[str, Any]] = {entry["folder"]: entry for entry in study.get("models", ())}
    rate = max((run.config.dynamic_rate for run in plan.runs), default=0.0)
    configurations = {run.folder.parent.name: configuration(run.config) for run in plan.runs}
    for model in plan.models:
        noted[model.folder] = {
            "label": model.label,
            "spec": model.spec,
            "description": model.description,
            "folder": model.folder,
            "configuration": configurations[model.folder],
        }
    write_json(
        out / "compare.json",
        {
            "command": command,
            "commands": [*dict.fromkeys([*before, command])],
            "request": dataclasses.asdict(request),
            "task": {
                "spec": plan.task_spec,
                "description": plan.task_description,
                "length": task.length,
                "dependency_length": task.dependency_length,
                "metrics": [
                    dataclasses.asdict(metric)
                    for metric in (*task.metrics, *dynamic_metrics(task, rate))
                ],
                "criterion": task.criterion,
            },
            "models": [*noted.values()],
            "asked": [model.folder for model in plan.models],
        },
    )


@final
class _Study:
    """The runs of a comparison that are still to be done, and those that are.

    Arguments:
        plan: all runs.
        out: folder of the results.
        notify: function that takes the events.
        allow_mismatch: go on with runs of other versions or engines.
    """

    def __init__(self, plan: Plan, out: Path, notify: StudyObserver, allow_mismatch: bool):
        self.plan, self.out, self.notify = plan, out, notify
        self.allow_mismatch = allow_mismatch
        self.done: set[PlannedRun] = set()

    def recall(self) -> None:
        """Read back the runs that earlier calls have finished: no worker is needed for those."""
        for run in self.plan.runs:
            if RunFolder(self.out / run.folder).result.exists():
                self._settle(run, self._perform(run))

    def _perform(self, run: PlannedRun) -> Outcome:
        return perform(run, self.out, self.notify, allow_mismatch=self.allow_mismatch)

    def remaining(self) -> list[PlannedRun]:
        """The runs that are not done yet, in order."""
        return [run for run in self.plan.runs if run not in self.done]

    def one_by_one(self) -> None:
        """Do what remains in this process."""
        remaining = self.remaining()
        while remaining:
            for run in list(remaining):
                if self._settle(run, self._perform(run)):
                    remaining.remove(run)
            if remaining:
                time.sleep(_RETRY_SECONDS)

    def side_by_side(self) -> None:
        """Do what remains in worker processes. What ends this ends them, once they have saved."""
        if not self.remaining():
            return
        context = multiprocessing.get_context("spawn")
        events, stop = context.Queue(), context.RawValue(ctypes.c_bool, False)
        pool = concurrent.futures.ProcessPoolExecutor(
            min(self.plan.jobs, len(self.remaining())), context, start_worker, (events, stop)
        )
        try:
            self._spread(pool, events)
        finally:
            stop.value = True  # pyright: ignore[reportAttributeAccessIssue]
            pool.shutdown(wait=True, cancel_futures=True)
            events.close()

    def _spread(self, pool: concurrent.futures.Executor, events: "Queue[StudyEvent]") -> None:
        def submit(run: PlannedRun) -> concurrent.futures.Future[Outcome]:
            with _inherited_deafness_to_signals():
                return pool.submit(perform_in_worker, run, self.out, self.allow_mismatch)

        pending = {submit(run): run for run in self.remaining()}
        # A pool watches the workers that it had when it was last given something, which is before
        # it starts another one: without this it would not see the last one die.
        pool.submit(os.getpid)
        locked: list[tuple[float, PlannedRun]] = []
        while pending or locked:
            finished, _ = concurrent.futures.wait(
                pending, _LOOK_SECONDS, concurrent.futures.FIRST_COMPLETED
            )
            self._relay(events)
            for future in finished:
                run = pending.pop(future)
                if not self._settle(run, future.result()):
                    locked.append((time.monotonic() + _RETRY_SECONDS, run))
            due = [run for at, run in locked if at <= time.monotonic()]
            locked = [(at, run) for at, run in locked if run not in due]
            pending |= {submit(run): run for run in due}
            if not pending:
                time.sleep(_LOOK_SECONDS)

    def _relay(self, events: "Queue[StudyEvent]") -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                event = events.get_nowait()
                if (event.label, event.seed) not in {(r.label, r.config.seed) for r in self.done}:
                    self.notify(event)

    def _settle(self, run: PlannedRun, outcome: Outcome) -> bool:
        """Return True if the run is done; False if another process writes it."""
        if outcome == "locked":
            self.notify(StudyEvent(run.label, run.config.seed, Waiting()))
            return False
        self.done.add(run)
        self.notify(StudyEvent(run.label, run.config.seed, Done(outcome)))
        return True


@contextlib.contextmanager
def _inherited_deafness_to_signals() -> Iterator[None]:
    """Let processes that start within the block ignore Ctrl-C, and leave SIGTERM pending, until
    they are set up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
