"""One run of a comparison, in this process or in a worker process, and its events."""

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

import torch
from torch import nn

from throughtime.core.errors import DataError, RunInterrupted, RunLockedError
from throughtime.core.scoring import Batch
from throughtime.foreign import recurrent_layers
from throughtime.instruments import gradient_flow
from throughtime.models import EncoderDecoder
from throughtime.studies.plan import PlannedRun
from throughtime.studies.samples import write_samples
from throughtime.tasks.task import Task
from throughtime.training import Event, Result, RunFolder, load_model, read_json, train, write_json
from throughtime.training.config import read_config
from throughtime.training.interruption import request_stop
from throughtime.training.reproducibility import reproducible


@dataclasses.dataclass(frozen=True)
class Planned:
    """The run is part of the comparison; sent for every run before the first one starts.

    Attributes:
        steps: updates of the run, at most.
    """

    steps: int


@dataclasses.dataclass(frozen=True)
class Waiting:
    """Another process writes the run; it will be looked at again."""


@dataclasses.dataclass(frozen=True)
class Done:
    """The run is trained and measured, now or by an earlier call.

    Attributes:
        result: result of the training.
    """

    result: Result


@dataclasses.dataclass(frozen=True)
class StudyEvent:
    """An event of one run of a comparison.

    Attributes:
        label: label of the model in the request.
        seed: seed of the run.
        event: one of the above, or an event of training.
    """

    label: str
    seed: int
    event: Planned | Waiting | Done | Event


StudyObserver = Callable[[StudyEvent], None]
"""Called with each event, in the process and thread that called `compare`."""


BATCH_SIZE = 64


def measure_gradient_flow(folder: Path) -> None:
    """Measure a run's gradient flow before and after training and write gradient_flow.json.

    What arrives before the first update is what learning begins with; after training, what the
    network made of it. Nothing is done if the file is there, unless the run has gone on since.

    The loss is that of the first 64 validation sequences, the same for all models of a task; where
    answers are due at several steps, of each sequence's last answer alone, so that a lag is
    a distance from the answer. In float64, so that a vanishing gradient does not underflow.

    No file is written for a model without a recurrent layer, such as NADE, or with several side by
    side, such as HRED: no layer's steps are those of the task.

    Raises:
        RunLockedError: another process writes the run now.
        RunError: the folder holds no trained run, or cannot be written.
    """
    file, step = folder / "gradient_flow.json", RunFolder(folder).latest_step()
    if file.exists() and read_json(file).get("step", step) == step:
        return
    with RunFolder(folder).locked():
        config, task, start = load_model(folder, trained=False)
        layer = _measured_layer(start)
        if layer is None:
            return
        _, _, trained = load_model(folder)
        with reproducible(torch.device("cpu"), config.threads, config.seed):
            batch = _held_out(task)
            models = {"start": start, "trained": trained}
            flows = {name: _flow(model, task, batch, layer) for name, model in models.items()}
        facts = {"dependency_length": task.dependency_length, "step": step}
        write_json(file, {**facts, **flows})


def _measured_layer(model: nn.Module) -> str | None:
    """Return the name of the layer whose gradients are measured; None where there is none."""
    if isinstance(model, EncoderDecoder) and model.encoder.layer is not None:
        # of two layers, that of the source: gradients go from the target's end through all of it
        return "encoder.layer"
    layers = list(recurrent_layers(model))
    return layers[0] if len(layers) == 1 else None


def _flow(model: nn.Module, task: Task, batch: Batch, layer: str) -> dict[str, object]:
    model.double().eval()
    flow = gradient_flow(model, lambda: task.score(model, batch).loss, layer=layer)
    return {
        "norm_by_lag": flow.norm_by_lag.tolist(),
        "contribution_by_lag": flow.contribution_by_lag.tolist(),
        "reach": flow.reach(),
    }


def _held_out(task: Task) -> Batch:
    batch = next(task.batches("validation", BATCH_SIZE), None)
    if batch is None:
        raise DataError(f"task {task.name} has no validation sequences")
    return task.last_answers(batch)


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
            config = dataclasses.replace(config, threads=read_config(folder).threads)
        result = train(config, folder, observer=observe, allow_mismatch=allow_mismatch)
        if result.status != "diverged":
            measure_gradient_flow(folder)
            write_samples(folder)
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
