"""Training: a run begun, gone on with, or read back."""

from pathlib import Path

from throughtime.core.errors import RunMismatchError
from throughtime.results.atomic import read_json, writing
from throughtime.training.config import RunConfig
from throughtime.training.environment import Environment, current_environment
from throughtime.training.observer import Event, Finished, Observer
from throughtime.training.reproducibility import reproducible, run_device
from throughtime.training.result import Result
from throughtime.training.run import Run, check_environment
from throughtime.training.run_folder import RunFolder


def train(
    config: RunConfig,
    folder: str | Path,
    *,
    observer: Observer | None = None,
    allow_mismatch: bool = False,
) -> Result:
    """Train a model on a task, go on with a run that was killed, or return a finished one's result.

    Each update k draws a batch that depends on (seed, k) alone, and applies

        g = dL/dw,   g <- clip(g),   w <- optimizer(w, g, learning_rate(k)).

    The update is made only if the loss and the norm of g are finite. If they are not, the run has
    diverged: the weights stay those before, and that is its result. Both numbers are read from the
    device at once, one wait an update, after the backward pass was sent to it and the next batch
    was drawn.

    A process that is killed at any moment goes on, by the same call, to the same bits: on the same
    device, with the same versions of throughtime, torch and numpy, and the same engines and
    threads.
    Ctrl-C ends the current update, saves, and raises RunInterrupted; a second one does not wait.

    A run, finished or not, goes on if it is given more steps. Where the schedule of the learning
    rate does not depend on the number of steps ("constant"), the result is, to the same bits, that
    of a run of as many steps at once; otherwise `Result.rescheduled` is not empty.

    torch's seeds, threads and determinism are set for the run and put back after it.

    Arguments:
        config: configuration of the run.
        folder: folder of the run: a new one, or one of the same configuration. See `RunFolder`.
        observer: function that takes the events of `training.observer`.
        allow_mismatch: go on although the folder was written with another configuration, device,
            engine, thread count or version; the result is then not reproducible. Another model or
            optimiser, and a finished run of another configuration, are refused all the same.

    Returns:
        The result, as it is stored in the folder's result.json.

    Raises:
        ConfigurationError, UnknownNameError: the task, model, optimiser or device cannot be built.
        DeviceError: this machine has no such device.
        DataError: the task's data files are missing or not whole.
        RunMismatchError: the folder belongs to another configuration, device, engine or version.
        RunVersionError: the folder was written in another version of the format.
        RunLockedError: another process is writing the run.
        RunWriteError: the folder cannot be written, or the disk is full.
        RunError: a file of the folder is cut short or damaged.
        RunInterrupted: Ctrl-C.
    """
    device = run_device(config.device)
    files = RunFolder(Path(folder))
    environment = current_environment(device, config.threads)
    notify = observer if observer is not None else _ignore
    with writing(files.path):  # a path that the system refuses
        # Before the lock, too: a finished run may be read where nothing can be written.
        result = _stored_result(files, config, environment, allow_mismatch)
    if result is None:
        with reproducible(device, config.threads, config.seed):
            # Built before there is a folder: what is refused leaves nothing behind.
            run = Run(files, config, device, environment, allow_mismatch, notify)
            with files.locked():
                result = _stored_result(files, config, environment, allow_mismatch)
                if result is None:
                    result = run.finish()
    notify(Finished(files.path, result))
    return result


def _ignore(event: Event) -> None:
    pass


def _stored_result(
    files: RunFolder, config: RunConfig, environment: Environment, allow_mismatch: bool
) -> Result | None:
    if not files.config.exists():
        return None
    stored = RunConfig.from_json(read_json(files.config), str(files.config))
    finished = files.result.exists()
    mine, theirs = config.identity(), stored.identity()
    changed = [name for name in mine if mine[name] != theirs[name]]
    if changed == ["steps"]:
        _check_steps(files, config.steps)
        return None
    hopeless = finished or "model" in changed or "optimizer" in changed
    if changed and (hopeless or not allow_mismatch):
        raise RunMismatchError(
            f"{files.path} belongs to another configuration",
            got=", ".join(f"{name}={mine[name]!r}" for name in changed),
            expected=", ".join(f"{name}={theirs[name]!r}" for name in changed),
            fix="Choose another folder."
            if hopeless
            else "Choose another folder, or allow the mismatch to go on with it.",
        )
    if not finished:
        return None
    result = Result.from_json(read_json(files.result), str(files.result))
    if not allow_mismatch:
        check_environment(files, environment, result.environment)
    return result


def _check_steps(files: RunFolder, steps: int) -> None:
    """Refuse fewer steps than the run has done: it goes on to more, not back."""
    done = files.latest_step() or 0
    if steps < done:
        raise RunMismatchError(
            f"{files.path} has done more steps",
            got=f"steps={steps}",
            expected=f"at least {done}",
            fix="Choose another folder for a shorter run.",
        )
