"""The training of a run: its updates, evaluations and checkpoints."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import torch

from throughtime.core.errors import RunError, RunInterrupted, RunMismatchError
from throughtime.core.scoring import Batch, Score
from throughtime.engines import recording
from throughtime.models import build_model
from throughtime.results.atomic import read_json, write_json, writing
from throughtime.results.fields import of_type
from throughtime.tasks.task import Split
from throughtime.training.checkpoint import Checkpoint, RunState, load_checkpoint, save_checkpoint
from throughtime.training.config import RunConfig, build_task, read_config, with_checksum
from throughtime.training.curriculum import Curriculum
from throughtime.training.dynamic_evaluation import dynamic_evaluation, dynamic_metrics
from throughtime.training.evaluation import EVALUATION_BATCH_SIZE, evaluate, evaluating
from throughtime.training.generator import write_vocabularies
from throughtime.training.interruption import Interruption, StopRequested, interruptible
from throughtime.training.optimizers import (
    Clipping,
    build_optimizer,
    depends_on_steps,
    learning_rate,
)
from throughtime.training.reproducibility import (
    Environment,
    check_environment,
    current_environment,
    random_states,
    reproducible,
    restore_random_states,
    run_device,
)
from throughtime.training.result import (
    Divergence,
    Evaluated,
    Event,
    Finished,
    Observer,
    Progress,
    Result,
    Started,
)
from throughtime.training.run_folder import MetricsFile, RunFolder, TensorBoardLog
from throughtime.training.teaching import build_teacher

PROGRESS_SECONDS = 0.1
"""Between two events of progress."""


@final
class Run:
    """A run, built before its folder is locked; `finish` reads and writes the folder.

    Arguments:
        files: its folder.
        config: configuration of the run.
        device: device of the run.
        environment: this process's.
        allow_mismatch: If True, a checkpoint of another environment is accepted.
        notify: the observer.
    """

    def __init__(
        self,
        files: RunFolder,
        config: RunConfig,
        device: torch.device,
        environment: Environment,
        allow_mismatch: bool,
        notify: Observer,
    ):
        self.files, self.config, self.device = files, config, device
        self.environment, self.allow_mismatch = environment, allow_mismatch
        self.notify = notify
        self.interruption = Interruption()
        self.task = build_task(config)
        self.curriculum = Curriculum(self.task)
        added = *dynamic_metrics(self.task, config.dynamic_rate), *self.curriculum.metrics
        self.metrics_shown = (*self.task.metrics, *added)
        self.model = build_model(config.model, self.task.inputs, self.task.answers).to(device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(
            config.optimizer, self.parameters, config.learning_rate, config.optimizer_options
        )
        self.clipping = Clipping(config.clip_norm, config.clip_value)
        self.teacher = build_teacher(config, self.model, self.task, self._score)
        self.state = RunState(level=self.curriculum.start)
        self.diverged: Divergence | None = None
        self.started = self.notified = time.monotonic()
        self.batch: Batch | None = None  # of the next update
        self.upcoming: Iterator[Batch] | None = None  # the batches after it
        self.engines_known = False

    def finish(self) -> Result:
        """Train from where the folder is to the end, and store the result."""
        self._read_folder()
        self.started = time.monotonic() - self.state.seconds
        with contextlib.ExitStack() as stack:
            self._open_logs(stack)
            self.interruption = stack.enter_context(interruptible())
            try:
                self.notify(Started(self.files.path, self.config, self.state.step, self._size()))
                test = self._train()
            except StopRequested:
                self._save()
                raise RunInterrupted(
                    f"{self.files.path} was interrupted",
                    got=f"{self.state.step} of {self.config.steps} steps",
                    fix="All is saved: the same call or command goes on from there.",
                ) from None
        result = self._result(test)
        write_json(self.files.result, result.to_json())
        return result

    def _open_logs(self, stack: contextlib.ExitStack) -> None:
        self.metrics = MetricsFile(self.files.metrics, self.state.metrics_bytes)
        stack.callback(self.metrics.close)
        self.logs: list[MetricsFile | TensorBoardLog] = [self.metrics]
        if self.config.tensorboard:
            log = TensorBoardLog(self.files.path / "tensorboard", self.state.step)
            stack.callback(log.close)
            self.logs.append(log)

    def _read_folder(self) -> None:
        self.files.remove_leavings()
        step = self.files.latest_step()
        self._write_config(step)
        write_vocabularies(self.files, self.task)
        if step is None:
            return
        checkpoint = load_checkpoint(self.files.checkpoint(step))
        stored = checkpoint.environment
        if not self.allow_mismatch:
            check_environment(self.files.path, self.environment, stored)
        try:
            self.model.load_state_dict(checkpoint.model)
            self._load_optimizer(checkpoint.optimizer)
            self.teacher.load(checkpoint.learner)
        except (RuntimeError, ValueError, KeyError) as error:
            raise RunMismatchError(
                f"{self.files.checkpoint(step)} does not fit model {self.config.model!r}",
                got=str(error),
                fix="Choose another folder.",
            ) from error
        restore_random_states(checkpoint.random, self.device)
        self.state = checkpoint.state
        self.environment = dataclasses.replace(self.environment, engines=stored.engines)

    def _write_config(self, step: int | None) -> None:
        """Write the configuration; first remove the result, if it is one of another."""
        stored = read_json(self.files.config) if self.files.config.exists() else {}
        if stored == self.config.to_json():
            return
        self.files.result.unlink(missing_ok=True)
        if step and stored["steps"] != self.config.steps and depends_on_steps(self.config.schedule):
            earlier = [*self._rescheduled(), stored["steps"]]
            write_json(self.files.rescheduled, {"steps": earlier})
        write_json(self.files.config, self.config.to_json())

    def _rescheduled(self) -> tuple[int, ...]:
        file = self.files.rescheduled
        if not file.exists():
            return ()
        try:
            return of_type(tuple[int, ...], read_json(file).get("steps"), "steps")
        except TypeError as error:
            raise RunError(
                f"{file} is damaged",
                got=str(error),
                expected="numbers of steps",
                fix="Bring the file back from a copy.",
            ) from error

    def _load_optimizer(self, stored: Mapping[str, Any]) -> None:
        """Take over the state, not the options: those of the configuration hold."""
        options = [{k: v for k, v in group.items() if k != "params"} for group in self._groups()]
        self.optimizer.load_state_dict(dict(stored))
        for group, values in zip(self._groups(), options, strict=True):
            group.update(values)

    def _groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def _train(self) -> dict[str, float] | None:
        """Update until the end; the metrics on the test split, or None if the run diverged."""
        while not self._ended():
            self._save_if_due()
            self.interruption.check()
            self._update()
        if self.state.interval_steps:
            self._record_interval()
        self._save()
        if self.diverged:
            return None
        test = self._evaluate("test")
        with evaluating(self.model, self.device):
            test |= self.task.examine(self.model, "test")
        test |= self.curriculum.level(self.state)
        rate = self.config.dynamic_rate
        if rate:
            test |= dynamic_evaluation(self.model, self.task, "test", rate=rate, device=self.device)
        return test

    def _result(self, test: dict[str, float] | None) -> Result:
        state = self.state
        solved = state.validation is not None and self.task.solved(state.validation)
        return Result(
            status="diverged" if self.diverged else "solved" if solved else "completed",
            step=state.step,
            seconds=state.seconds,
            parameters=self._size(),
            clip_rate=state.clipped / max(state.step, 1),
            validation=state.validation,
            test=test,
            diverged=self.diverged,
            environment=self.environment,
            rescheduled=self._rescheduled(),
            metrics=self.metrics_shown,
            signatures=dict(self.task.signatures),
        )

    def _ended(self) -> bool:
        """Evaluate if it is due, and return True if the run ends here."""
        state, config = self.state, self.config
        if self.diverged is not None:
            return True
        last = state.step >= config.steps
        if last:
            self._save()  # before what only the end adds: a run of more steps goes on from here
        if state.step > state.evaluated_at and (last or state.step % config.evaluate_every == 0):
            metrics = self._evaluate("validation")
            if not math.isfinite(metrics["loss"]):
                self.diverged = Divergence(state.step, "loss")
                return True
            state.evaluated_at, state.validation = state.step, metrics
            self._record({"step": state.step, "kind": "validation", **metrics})
        just_solved = (
            state.evaluated_at == state.step
            and state.validation
            and self.task.solved(state.validation)
        )
        return last or bool(config.stop_when_solved and just_solved)

    def _update(self) -> None:
        """One update of the weights, or the finding that the run has diverged."""
        state, config = self.state, self.config
        rate = self._learning_rate(state.step)
        batch = self.batch = self.batch if self.batch is not None else self._draw()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.teacher.teach(batch, state.step)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        measured = torch.cat([loss.double().reshape(1), self.clipping.measure(gradients)])
        self.batch = self._draw() if state.step + 1 < config.steps else None
        loss_value, norm, largest = measured.tolist()
        if not math.isfinite(loss_value) or not math.isfinite(norm):
            self.diverged = Divergence(
                state.step + 1, "gradient" if math.isfinite(loss_value) else "loss"
            )
            return
        clipped = self.clipping.clip(gradients, norm, largest)
        for group in self._groups():
            group["lr"] = rate
        self.optimizer.step()
        self.teacher.keep()

        state.step += 1
        state.clipped += clipped
        state.interval_steps += 1
        state.interval_loss += loss_value
        state.interval_norm += norm
        state.interval_clipped += clipped
        if self.curriculum.rise(state, loss_value):
            self.batch = self.upcoming = None  # they were drawn at the level before
        now = time.monotonic()
        state.seconds = now - self.started
        if state.step % config.log_every == 0:
            self._record_interval()
        if now - self.notified >= PROGRESS_SECONDS or state.step == config.steps:
            self.notified = now
            self.notify(Progress(state.step, config.steps, loss_value, norm, rate, state.seconds))

    def _score(self, model: Any, batch: Batch, carried: Any, step: int) -> Score:
        """Score the model. In the first step, check the engines, before the weights change."""
        if self.engines_known:
            return self.task.score(model, batch, state=carried, step=step)
        with recording() as names:
            score = self.task.score(model, batch, state=carried, step=step)
        engines, before = sorted(set(names)), self.environment.engines
        if self.state.step > 0 and engines != before and not self.allow_mismatch:
            raise RunMismatchError(
                f"{self.files.path} was trained by other engines",
                got=", ".join(engines) or "none",
                expected=", ".join(before) or "none",
                fix="Choose another folder, or allow the mismatch.",
            )
        self.environment = dataclasses.replace(
            self.environment, engines=sorted({*engines, *before})
        )
        self.engines_known = True
        return score

    def _draw(self) -> Batch:
        """Draw the next batch; in a search, the first batch again."""
        one = self.teacher.one_batch
        if one and self.batch is not None:
            return self.batch
        if self.upcoming is None:
            config, start = self.config, 0 if one else self.state.step
            self.upcoming = self.curriculum.task(self.state).batches(
                "training", config.batch_size, seed=config.seed, start=start
            )
        return next(self.upcoming).to(self.device)

    def _evaluate(self, split: Split) -> dict[str, float]:
        batches = self.task.batches(split, EVALUATION_BATCH_SIZE)
        metrics = evaluate(self.model, self.task, self.interruption.between(batches), self.device)
        self.state.seconds = time.monotonic() - self.started
        self.notify(Evaluated(self.state.step, split, metrics, self.task.metrics[0]))
        return metrics

    def _learning_rate(self, step: int) -> float:
        config = self.config
        return learning_rate(
            config.schedule, config.learning_rate, step, config.steps, config.warmup_steps
        )

    def _record_interval(self) -> None:
        state = self.state
        self._record(
            {
                "step": state.step,
                "kind": "train",
                "loss": state.interval_loss / state.interval_steps,
                "gradient_norm": state.interval_norm / state.interval_steps,
                "clip_rate": state.interval_clipped / state.interval_steps,
                "learning_rate": self._learning_rate(state.step - 1),
                **self.curriculum.level(state),
            }
        )
        state.interval_steps = state.interval_clipped = 0
        state.interval_loss = state.interval_norm = 0.0

    def _record(self, row: dict[str, object]) -> None:
        for log in self.logs:
            log.append(row)

    def _save_if_due(self) -> None:
        if self.state.step > 0 and self.state.step % self.config.checkpoint_every == 0:
            self._save()

    def _save(self) -> None:
        """Write a checkpoint, unless this step has one: it would be the same."""
        if self.files.latest_step() == self.state.step:
            return
        self.state.metrics_bytes = self.metrics.sync()
        checkpoint = Checkpoint(
            state=self.state,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            learner=self.teacher.state(),
            random=random_states(self.device),
            environment=self.environment,
        )
        with self.files.new_checkpoint(self.state.step) as folder:
            save_checkpoint(checkpoint, folder)

    def _size(self) -> int:
        return sum(p.numel() for p in self.parameters)


def train(
    config: RunConfig,
    folder: str | Path,
    *,
    observer: Observer | None = None,
    allow_mismatch: bool = False,
) -> Result:
    """Train a model on a task, go on with a run that was killed, or return a finished one's result.

    Each update k draws a batch that depends on (seed, k) and the curriculum's level, and applies

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
        observer: function that takes the events of `training.result`.
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
    config = with_checksum(config)
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
    stored = read_config(files.path)
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
        check_environment(files.path, environment, result.environment)
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
