"""The folder of one run: its lock, its metrics, and which checkpoint is the latest."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

from throughtime.core.errors import ConfigurationError, RunError, RunLockedError, RunWriteError
from throughtime.results.atomic import read_whole, sync_folder, write_whole, writing

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_UNFINISHED = re.compile(
    r"(checkpoint-\d+|latest|(config|vocabulary|result|rescheduled|gradient_flow)\.json)\.tmp"
)


@final
class RunFolder:
    """Paths of a run, and the steps of writing it that must not be mixed up.

    config.json             the configuration; written first
    vocabulary.json         vocabularies and kinds, of a run that generates
    metrics.jsonl           a row an interval, a row an evaluation
    checkpoint-<step>/      the latest and the one before it
    latest                  the name of the latest
    result.json             written last
    rescheduled.json        earlier numbers of steps, where the learning rate depends on them
    lock                    held while a process writes the run

    Arguments:
        path: path of the folder, which need not exist yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.json"
        self.vocabulary = path / "vocabulary.json"
        self.metrics = path / "metrics.jsonl"
        self.latest = path / "latest"
        self.result = path / "result.json"
        self.rescheduled = path / "rescheduled.json"
        self.lock = path / "lock"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and keep others from writing it. The lock dies with the process.

        Raises:
            RunLockedError: another process, or another thread, writes it now.
            RunWriteError: the folder cannot be created or written, or holds what is no run.
        """
        import filelock

        with writing(self.path):
            self._check_is_run()
            self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.lock)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunLockedError(
                f"{self.path} is being written by another process",
                fix="Wait for it to end, or choose another folder.",
            ) from error
        except (OSError, NotImplementedError) as error:
            raise RunWriteError(
                f"cannot lock {self.lock}",
                got=str(error),
                fix="Choose a folder that you may write to, on a file system with locks.",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _check_is_run(self) -> None:
        """Refuse a folder of another program: old checkpoints in it would be deleted."""
        strange = [p.name for p in (self.metrics, self.latest, self.result) if p.exists()]
        strange += self._names() if self.path.is_dir() else []
        if strange and not self.config.exists():
            raise RunWriteError(
                f"{self.path} holds {', '.join(strange)} but no config.json",
                expected="a run, or none",
                fix="Choose another folder.",
            )

    def latest_step(self) -> int | None:
        """The step of the latest checkpoint, or None before the first.

        Raises:
            RunError: `latest` does not name a checkpoint, or there is none of this name.
        """
        if not self.latest.exists():
            return None
        name = read_whole(self.latest).decode("utf-8", errors="replace").strip()
        match = _CHECKPOINT.fullmatch(name)
        if match is None or not (self.path / name).is_dir():
            raise RunError(
                f"{self.latest} names no checkpoint of this run",
                got=repr(name[:80]),
                expected=f"one of: {', '.join(self._names()) or '(there is none)'}",
                fix="Write the name of a checkpoint into it, or rename the folder and start anew.",
            )
        return int(match.group(1))

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.path / f"checkpoint-{step}"

    @contextlib.contextmanager
    def new_checkpoint(self, step: int) -> Iterator[Path]:
        """A folder to write a checkpoint into, which becomes the latest when the block ends.

        Until then it has another name, so that nobody takes it for whole. Those older than the one
        before it are then deleted.

        Raises:
            RunWriteError: the disk is full, or the folder cannot be written.
        """
        final_path = self.checkpoint(step)
        temporary = self.path / f"{final_path.name}.tmp"
        with writing(temporary):
            temporary.mkdir()
        try:
            yield temporary
            with writing(final_path):
                sync_folder(temporary)
                os.replace(temporary, final_path)
                sync_folder(self.path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        write_whole(self.latest, f"{final_path.name}\n".encode())
        self._prune(step)

    def _prune(self, latest: int) -> None:
        earlier = [step for step in map(_step, self._names()) if step < latest]
        for step in sorted(earlier)[:-1]:
            self._delete_checkpoint(step)

    def _delete_checkpoint(self, step: int) -> None:
        """Rename it first, so that half of one is never taken for a whole one."""
        path = self.checkpoint(step)
        doomed = path.with_name(f"{path.name}.tmp")
        with writing(path):
            os.replace(path, doomed)
            shutil.rmtree(doomed)

    def remove_leavings(self) -> None:
        """Delete what a killed process left: unfinished files, checkpoints not yet the latest."""
        latest = self.latest_step()
        with writing(self.path):
            for path in self.path.iterdir():
                if not _UNFINISHED.fullmatch(path.name):
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        for step in map(_step, self._names()):
            if latest is None or step > latest:
                self._delete_checkpoint(step)
        if latest is not None:
            self._prune(latest)

    def _names(self) -> list[str]:
        return sorted(
            (p.name for p in self.path.iterdir() if _CHECKPOINT.fullmatch(p.name)), key=_step
        )


def _step(name: str) -> int:
    return int(name.removeprefix("checkpoint-"))


@final
class MetricsFile:
    """metrics.jsonl while it is written: each row is one line, on its way to the disk at once.

    Arguments:
        path: path of the file.
        size: number of bytes that are kept; rows beyond were written after the checkpoint.

    Raises:
        RunError: the file is shorter than that.
        RunWriteError: it cannot be written.
    """

    def __init__(self, path: Path, size: int = 0):
        self._path = path
        with writing(path):
            self._file = path.open("ab")
            found = self._file.tell()
            if found < size:
                self._file.close()
                raise RunError(
                    f"{path} has lost rows that were written before the checkpoint",
                    got=f"{found} bytes",
                    expected=f"at least {size}",
                    fix="Bring the file back, or rename the run's folder and start the run again.",
                )
            self._file.truncate(size)
            self._file.seek(0, os.SEEK_END)

    def append(self, row: Mapping[str, object]) -> None:
        """Write one row. Raises RunWriteError."""
        with writing(self._path):
            self._file.write(f"{json.dumps(row, allow_nan=False)}\n".encode())
            self._file.flush()

    def sync(self) -> int:
        """Wait until all rows are on the disk; the file's size in bytes. Raises RunWriteError."""
        with writing(self._path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Close the file. Raises RunWriteError."""
        with writing(self._path):
            self._file.close()


def read_metrics(folder: Path) -> list[dict[str, object]]:
    """The rows of a run's metrics.jsonl, without a last line that is still being written.

    Arguments:
        folder: folder of the run.

    Raises:
        RunError: there is no such file, or a line of it is damaged.
    """
    path = RunFolder(folder).metrics
    lines = read_whole(path).split(b"\n")[:-1]
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise RunError(
                f"line {number} of {path} is damaged",
                got=repr(line[:80]),
                expected="a JSON object",
                fix="Bring the file back, or rename the run's folder and start the run again.",
            )
        rows.append(row)
    return rows


@final
class TensorBoardLog:
    """Writes rows of metrics as scalars: train/loss, validation/accuracy, ...

    Arguments:
        folder: folder of the event files; made if need be.
        step: updates done; what an earlier start of the run logged beyond it is hidden.

    Raises:
        ConfigurationError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, step: int = 0):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigurationError(
                "tensorboard=True, but tensorboard is not installed",
                got=str(error),
                fix="Run: pip install 'throughtime[tensorboard]', or leave the option out.",
            ) from error
        self._writer = SummaryWriter(folder, purge_step=step + 1)

    def append(self, row: Mapping[str, object]) -> None:
        """Log one row of metrics.jsonl."""
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Write out what is left, and close the event file."""
        self._writer.close()
