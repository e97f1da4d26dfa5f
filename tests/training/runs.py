"""Runs of `train` in processes of their own, which can be copied or killed as they write."""

import os
import resource
import shutil
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import warm

from throughtime.core.errors import ThroughtimeError
from throughtime.training import RunConfig, train

# Before each of these something has been, or is about to be, written.
WRITES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}


class Run:
    """A run that has begun.

    Arguments:
        config: the run's configuration, as JSON has it.
        folder: the run's folder.
        options: copies (a folder for copies of the run, one before each write); kill_at_write
            (the number of a write, from 1), and so many seconds after it: kill_delay; kill_when
            (the name of a file that will be there); file_size_limit (in bytes).
    """

    def __init__(self, config: dict[str, object], folder: Path, **options: object):
        self._answer, theirs = warm.context().Pipe(duplex=False)
        job = {"config": config, "folder": str(folder), **options}
        self._process = warm.context().Process(target=_work, args=(job, theirs))
        self._process.start()
        theirs.close()

    def end(self) -> str:
        """Wait for it: "done", "killed", or its error."""
        self._process.join()
        if self._process.exitcode == -signal.SIGKILL:
            return "killed"
        return self._answer.recv()


def run(config: dict[str, object], folder: Path, **options: object) -> str:
    """Begin a run and wait for its end."""
    return Run(config, folder, **options).end()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_when(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)
    _die()


def _copy(folder: Path, to: Path) -> None:
    """Copy what the system has of a run: all that would be left, were it killed now."""
    if folder.exists():
        shutil.copytree(folder, to)
    else:
        to.mkdir()


def _work(job: dict[str, Any], answer: Connection) -> None:
    os.fsync = lambda descriptor: None  # a killed process loses nothing that it has written
    if "file_size_limit" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size_limit"], resource.RLIM_INFINITY))
    if "kill_when" in job:
        threading.Thread(target=_die_when, args=[Path(job["kill_when"])], daemon=True).start()
    if "kill_at_write" in job or "copies" in job:
        writes, copying = 0, False

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal writes, copying
            if copying or event not in WRITES or not str(arguments[0]).startswith(job["folder"]):
                return
            writes += 1
            if "copies" in job:
                copying = True  # which opens files too
                _copy(Path(job["folder"]), Path(job["copies"], str(writes)))
                copying = False
            elif writes == job["kill_at_write"] and "kill_delay" in job:
                threading.Timer(job["kill_delay"], _die).start()
            elif writes == job["kill_at_write"]:
                _die()

        sys.addaudithook(watch)
    try:
        train(RunConfig.from_json(job["config"]), job["folder"])
    except ThroughtimeError as error:
        answer.send(f"{type(error).__name__}: {error}")
    else:
        answer.send("done")
