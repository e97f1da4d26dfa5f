"""Ways of learning against each other: time a step and memory, by steps and by units."""

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

import throughtime as tt
from benchmarks.registry import Row, benchmark
from throughtime.cells import ElmanCell
from throughtime.core.state import state_tensors
from throughtime.learning import (
    BPTT,
    KFRTRL,
    RTRL,
    UORO,
    Chunk,
    Learner,
    LearnerState,
    SnAp,
    StepwiseModel,
)

BATCH, WIDTH = 4, 8
BY_UNITS, STEPS = (16, 32, 64, 128, 256, 512), 20
LARGEST = {"RTRL": 128, "SnAp-1": 256, "KF-RTRL": 256}  # units
BY_STEPS, UNITS = (100, 200, 400, 800), 16
CHECKPOINTED = "BPTT, checkpoint=sqrt"
LEARNERS: dict[str, Learner] = {
    "BPTT": BPTT("native"),
    CHECKPOINTED: BPTT("native"),
    "RTRL": RTRL(),
    "SnAp-1": SnAp(1),
    "KF-RTRL": KFRTRL(),
    "UORO": UORO(),
}
# Exponents in theory, of a tanh network's units H and steps T. Those of SnAp-1 are of what it does
# here: all of F_s is made, which takes H^3. Checkpoints leave the outputs, which the losses read.
TIME_BY_UNITS = {
    "BPTT": "2",
    CHECKPOINTED: "2",
    "RTRL": "4",
    "SnAp-1": "2 to 3",
    "KF-RTRL": "3",
    "UORO": "2",
}
MEMORY_BY_UNITS = {
    "BPTT": "1",
    CHECKPOINTED: "1",
    "RTRL": "3",
    "SnAp-1": "2",
    "KF-RTRL": "2",
    "UORO": "2",
}
MEMORY_BY_STEPS = dict.fromkeys(LEARNERS, "0") | {"BPTT": "1", CHECKPOINTED: "1"}


@benchmark("learners")
def learners(rounds: int) -> list[Row]:
    """Of a tanh network: each point, and exponents by least squares in logarithms."""
    _check()
    rows: list[Row] = []
    for sizes, by_units in ((BY_UNITS, True), (BY_STEPS, False)):
        subjects = [_Subject(n, STEPS) if by_units else _Subject(UNITS, n) for n in sizes]
        times = _times(subjects, rounds)
        letter = "H" if by_units else "T"
        for name in LEARNERS:
            taken = [subject for subject in subjects if name in subject.states]
            own = [[1e3 * seconds / s.steps for seconds in times[s, name]] for s in taken]
            for subject, found in zip(taken, own, strict=True):
                low, middle, high = statistics.quantiles(found, n=4)
                row = Row(subject.case, name, "a step", middle, low, high, "ms a step")
                rows.append(row)
            theory = f"{letter}^{TIME_BY_UNITS[name] if by_units else '0'}"
            for part in (slice(None), slice(-2, None)) if by_units else (slice(None),):
                slopes = [
                    exponent(sizes[: len(own)][part], at[part]) for at in zip(*own, strict=True)
                ]
                rows.append(_exponent(taken[part], name, theory, "time a step", slopes))
            rows += _memories(taken, name, sizes[: len(own)], letter)
    return rows


class _Subject:
    """A tanh network of some units, and a chunk of some steps."""

    def __init__(self, units: int, steps: int):
        torch.manual_seed(0)
        self.units, self.steps = units, steps
        self.case = f"B={BATCH} T={steps} I={WIDTH} H={units}"
        self.model = StepwiseModel(ElmanCell(WIDTH, units), nn.Linear(units, 1), _squared)
        self.chunk = Chunk(torch.randn(steps, BATCH, WIDTH), torch.randn(steps, BATCH, 1))
        self.states: dict[str, LearnerState] = {
            name: learner.init(self.model, BATCH)
            for name, learner in LEARNERS.items()
            if units <= LARGEST.get(name, units)
        }

    def learn(self, name: str, steps: int | None = None) -> dict[str, Tensor]:
        """The gradients of the chunk, or of its first steps."""
        chunk = self.chunk if steps is None else self.chunk.part(0, steps)
        with _options(name):
            return LEARNERS[name].update(self.model, self.states[name], chunk).gradients

    def bytes_kept(self, name: str) -> dict[str, int]:
        """What is remembered for the next step, or saved for the way back, beyond the chunk."""
        if "BPTT" not in name:
            return {"": _bytes(state_tensors(self.states[name].memory))}
        saved: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self.learn(name)
        given = [self.chunk.inputs, self.chunk.targets, *self.model.parameters()]
        ours = {t.untyped_storage().data_ptr() for t in given}
        own = [tensor for at, tensor in saved.items() if at not in ours]
        if name == "BPTT":
            return {"": _bytes(own)}
        every_step = (self.steps, self.steps * BATCH)  # the outputs, and what the loss keeps
        rest = [tensor for tensor in own if tensor.shape[0] not in every_step]
        return {"": _bytes(own), ", states alone": _bytes(rest)}


def _squared(answers: Tensor, targets: Tensor) -> Tensor:
    return (answers - targets).square().sum(-1)


@contextlib.contextmanager
def _options(name: str) -> Iterator[None]:
    with tt.engine_options(checkpoint="sqrt" if name == CHECKPOINTED else None):
        yield


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(t.untyped_storage().nbytes() for t in tensors)


def _times(subjects: Sequence[_Subject], rounds: int) -> dict[tuple[_Subject, str], list[float]]:
    """Seconds of each learner on each subject, which take turns."""
    times: dict[tuple[_Subject, str], list[float]] = {}
    for number in range(rounds + 1):
        for subject in subjects:
            for name in subject.states:
                if number == 0:
                    subject.learn(name, 2)  # what is made or loaded once is not counted
                    continue
                gc.collect()
                start = time.perf_counter()
                subject.learn(name)
                times.setdefault((subject, name), []).append(time.perf_counter() - start)
    return times


def _memories(
    subjects: Sequence[_Subject], name: str, sizes: Sequence[int], letter: str
) -> list[Row]:
    """Kilobytes, and their exponent."""
    rows: list[Row] = []
    kept = [subject.bytes_kept(name) for subject in subjects]
    for part in kept[0]:
        own = [found[part] / 1000 for found in kept]
        for subject, size in zip(subjects, own, strict=True):
            rows.append(Row(subject.case, name + part, "the chunk", size, size, size, "kB kept"))
        theory = MEMORY_BY_UNITS[name] if letter == "H" else MEMORY_BY_STEPS[name]
        if part and letter == "T":
            theory = "0.5"
        slope = [exponent(sizes, own)]
        rows.append(_exponent(subjects, name + part, f"{letter}^{theory}", "memory", slope))
    return rows


def _exponent(
    subjects: Sequence[_Subject], name: str, theory: str, what: str, slopes: Sequence[float]
) -> Row:
    low, middle, high = statistics.quantiles(slopes, n=4) if len(slopes) > 1 else 3 * [slopes[0]]
    first, last = subjects[0], subjects[-1]
    axis = f"T={first.steps} to {last.steps} H={first.units}"
    if first.units != last.units:
        axis = f"H={first.units} to {last.units} T={first.steps}"
    return Row(f"{what}, {axis}", name, f"{theory} in theory", middle, low, high, "the exponent")


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Slope of the logarithms of values by those of sizes, by least squares."""
    x, y = [math.log(n) for n in sizes], [math.log(v) for v in values]
    return statistics.linear_regression(x, y).slope


def _check() -> None:
    """No figure unless all gradients are finite, and those that are exact agree."""
    subject = _Subject(UNITS, STEPS)
    expected = subject.learn("BPTT")
    for name in LEARNERS:
        found = subject.learn(name)
        for key, gradient in expected.items():
            error = float((found[key] - gradient).norm() / gradient.norm())
            exact = "BPTT" in name or name == "RTRL" or key.startswith("readout")
            if not math.isfinite(error) or (exact and not error < 1e-4):
                raise SystemExit(f"{name}: {key} differs by {error:.1e}: not reported")
