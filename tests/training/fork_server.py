"""Runs of `train` in processes of their own, which can be copied or killed as they write.

torch is imported once, in a server process that forks one child a job: a start takes milliseconds.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[2] / "src"
# Before each of these something has been, or is about to be, written.
WRITES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}


class ForkServer:
    """The test's end: a subprocess that answers each job's line with a line."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, config: dict[str, object], folder: Path, **options: object) -> None:
        """Begin `train(config, folder)` in a child.

        Options: copies (a folder for copies of the run, one before each write); kill_at_write
        (which one, from 1), and so many seconds after it: kill_delay; kill_when (a file is there);
        file_size_limit (bytes).
        """
        assert self._process.stdin is not None
        job = {"config": config, "folder": str(folder), **options}
        self._process.stdin.write(f"{json.dumps(job)}\n")
        self._process.stdin.flush()

    def end(self) -> str:
        """Wait for it: "done", "killed", or its error."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def run(self, config: dict[str, object], folder: Path, **options: object) -> str:
        """Both."""
        self.start(config, folder, **options)
        return self.end()

    def close(self) -> None:
        """End the server."""
        self._process.communicate()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_when(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)
    _die()


def _copy(folder: Path, to: Path) -> None:
    """What the system has of a run: all that would be left, were it killed now."""
    if folder.exists():
        shutil.copytree(folder, to)
    else:
        to.mkdir()


def _child(job: dict[str, Any]) -> str:
    from throughtime.core.errors import ThroughtimeError
    from throughtime.training import RunConfig, train

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
        return f"{type(error).__name__}: {error}"
    return "done"


def _serve() -> None:
    import filelock
    import safetensors.torch
    import torch

    from throughtime.models import build_model
    from throughtime.tasks import TASKS
    from throughtime.tasks.kinds import Values, Vectors
    from throughtime.training import current_environment

    os.fsync = lambda descriptor: None  # a killed process loses nothing that it has written
    # What every child would otherwise import, read or find out anew.
    assert filelock
    assert safetensors.torch
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    current_environment(torch.device("cpu"), 1)
    TASKS.build("digits").training_batch(0, 1, 0)
    build_model("lstm", Vectors(1), Values(1))
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, _child(json.loads(line)).encode())
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reading) as answer:
            said = answer.read()
        print(json.dumps("killed" if os.WIFSIGNALED(status) else said), flush=True)


if __name__ == "__main__":
    _serve()
