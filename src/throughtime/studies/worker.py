"""One run of a comparison, in this process or in a worker process."""

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from throughtime.core.errors import RunInterrupted, RunLockedError
from throughtime.studies.flow import measure_gradient_flow
from throughtime.studies.folders import stored
from throughtime.studies.plan import PlannedRun
from throughtime.studies.progress import StudyEvent
from throughtime.training import Event, Result, RunFolder, train
from throughtime.training.interruption import request_stop

_TERMINATED = 128 + signal.SIGTERM

Outcome = Result | Literal["locked"]


def perform(
    run: PlannedRun, out: Path, send: Callable[[StudyEvent], None], *, allow_mismatch: bool
) -> Outcome:
    """Train and measure one run, or find it done, or find that another process writes it.

    A run that is there keeps its number of threads: it may have been begun by a comparison of
    another number of jobs, also after this one was planned.
    """
    folder, config = out / run.folder, run.config

    def observe(event: Event) -> None:
        send(StudyEvent(run.label, run.config.seed, event))

    try:
        if RunFolder(folder).config.exists():
            config = dataclasses.replace(config, threads=stored(folder).threads)
        result = train(config, folder, observer=observe, allow_mismatch=allow_mismatch)
        if result.status != "diverged":
            measure_gradient_flow(folder)
    except RunLockedError:
        return "locked"
    return result


class _Worker:
    """The state of a worker process."""

    events: "Queue[StudyEvent]"
    stop: Any
    busy = False
    terminated = False


def start_worker(events: "Queue[StudyEvent]", stop: Any) -> None:
    """Set a worker process up: its channel, and how it ends.

    Ctrl-C reaches every process of a terminal, but it is the study that decides: it sets `stop`,
    and the run here takes that as its own Ctrl-C. SIGTERM ends a worker once its run is saved. A
    worker whose study was killed ends at once; its run goes on from the last checkpoint next time.

    Arguments:
        events: queue of events to the study.
        stop: true once the study ends its runs. A bare value without a lock, which a worker
            that is killed would keep for ever.
    """
    _Worker.events, _Worker.stop = events, stop
    events.cancel_join_thread()  # what nobody reads any more must not keep the process alive
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, _terminate)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def perform_in_worker(run: PlannedRun, out: Path, allow_mismatch: bool) -> Outcome:
    """`perform` in a worker process that `start_worker` set up."""

    def send(event: StudyEvent) -> None:
        _Worker.events.put(event)
        if _Worker.stop.value:
            request_stop()

    if _Worker.stop.value:
        raise RunInterrupted(f"{out / run.folder} was not started")
    _Worker.busy = True
    try:
        return perform(run, out, send, allow_mismatch=allow_mismatch)
    finally:
        _Worker.busy = False
        if _Worker.terminated:
            os._exit(_TERMINATED)


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    _Worker.terminated = True
    request_stop()
    if not _Worker.busy:
        os._exit(_TERMINATED)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
