"""A run that takes a moment, a task that can be told what to do, and a run's files as bytes."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from throughtime.core.scoring import Mean, Metric, Score
from throughtime.tasks import SequenceBatch, Split, Task
from throughtime.tasks.kinds import Values, Vectors
from throughtime.training import RunConfig, RunFolder

# Two layers with dropout: the generator's state matters. digits by rows: T = 8.
TINY = {
    "task": "digits:pixels_per_step=8",
    "model": "lstm:hidden=4,layers=2,dropout=0.5",
    "steps": 12,
    "batch_size": 8,
    "evaluate_every": 6,
    "checkpoint_every": 4,
    "log_every": 5,
    "clip_norm": 0.5,
}


def tiny(**changes: object) -> RunConfig:
    """The tiny run, with other values."""
    return RunConfig.from_json({**TINY, **changes})


def latest(folder: Path) -> Path:
    """The folder of the latest checkpoint."""
    files = RunFolder(folder)
    step = files.latest_step()
    assert step is not None
    return files.checkpoint(step)


def trained(folder: Path) -> tuple[bytes, bytes]:
    """All tensors of the latest checkpoint (weights, optimiser, generators), and the metrics."""
    tensors = (latest(folder) / "tensors.safetensors").read_bytes()
    return tensors, (folder / "metrics.jsonl").read_bytes()


def weights(folder: Path) -> dict[str, Tensor]:
    """The model's weights in the latest checkpoint."""
    import safetensors.torch

    tensors = safetensors.torch.load((latest(folder) / "tensors.safetensors").read_bytes())
    return {name: value for name, value in tensors.items() if name.startswith("model.")}


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same bits."""
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


class Scripted(Task):
    """Repeat a random value; its loss may be replaced, and it is solved when told so."""

    name = "scripted"
    inputs = Vectors(1)
    answers = Values(1)
    length = 3
    dependency_length = 2
    criterion = "when told so"
    metrics = (Metric("accuracy", "fraction", "higher", 0.0), Metric("loss", "", "lower", 1.0))

    def __init__(
        self,
        loss: Callable[[Tensor, SequenceBatch], Tensor] | None = None,
        solved: Callable[[Mapping[str, float]], bool] = lambda metrics: False,
        sizes: Sequence[int] = (3, 1),
    ):
        self._loss, self._solved, self._sizes = loss, solved, sizes

    def _draw(self, seed: int, size: int) -> SequenceBatch:
        inputs = torch.randn(3, size, 1, generator=torch.Generator().manual_seed(seed))
        return SequenceBatch(inputs, inputs[0])

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[SequenceBatch]:
        if split == "training":
            return (self._draw(1000 * seed + step, size) for step in itertools.count(start))
        return (self._draw(index, size) for index, size in enumerate(self._sizes))

    def score(self, model, batch, *, state=None, step=None) -> Score:
        outputs = model(batch.inputs, batch.lengths)
        own = self._loss
        loss = F.mse_loss(outputs, batch.targets) if own is None else own(outputs, batch)
        right = ((outputs - batch.targets).abs() < 0.5).sum()
        count = torch.tensor(batch.size)
        parts = {"loss": Mean(loss.detach().double() * count, count)}
        return Score(loss, {**parts, "accuracy": Mean(right, count)})

    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        return {name: mean.value for name, mean in parts.items()}

    def examine(self, model, split: Split) -> dict[str, float]:
        return {}

    def last_answers(self, batch: SequenceBatch) -> SequenceBatch:
        return batch

    def solved(self, metrics: Mapping[str, float]) -> bool:
        return self._solved(metrics)
