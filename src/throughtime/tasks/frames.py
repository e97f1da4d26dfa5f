"""Sequences of frames whose probability a model gives: batches, nats a frame and a sequence."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.density import LatentDensity, LatentLaws
from throughtime.core.errors import ConfigurationError, DataError
from throughtime.core.latent import Latents, active_units, mutual_information
from throughtime.core.scoring import Mean, Metric, Score
from throughtime.tasks.kinds import Frames, Likelihood
from throughtime.tasks.seeding import batches_by_length, generator
from throughtime.tasks.task import Split, Task, check_at_least

Sequences: TypeAlias = Mapping[Split, Sequence[Float[np.ndarray, "_ width"]]]
"""The sequences of each split, float32."""

_POOL = 8  # batches that are sorted by length together
_ROWS = 1600  # sequences times draws that are weighted at once: the memory that they take
_USUAL_SEED = {"training": 0, "validation": 2**40, "test": 2**41}


class FrameBatch(NamedTuple):
    """Sequences of frames, time first.

    Attributes:
        x: (time, batch, width) float32, 0 behind the end of a sequence.
        lengths: (batch,) int64 on the CPU, frames of each sequence.
        seeds: (batch,) int64 on the CPU, seeds of the draws of latent variables.
        unscored: (batch,) int64 on the CPU, frames at the start that are read and not scored; None
            where all are scored.
    """

    x: Float[Tensor, "time batch width"]
    lengths: Int[Tensor, " batch"]
    seeds: Int[Tensor, " batch"]
    unscored: Int[Tensor, " batch"] | None = None

    @property
    def size(self) -> int:
        """The number of sequences."""
        return self.x.shape[1]

    def to(self, device: torch.device) -> "FrameBatch":
        """Return the batch with its frames on a device; lengths and seeds stay on the CPU.

        Arguments:
            device: device of the model.
        """
        return self._replace(x=self.x.to(device))


@final
class FrameDensity(Task):
    """Give the probability of a sequence of frames, the first frame included.

        loss = - sum_songs ln p(x) / sum_songs T            nats per frame: the mean over frames
        mean over sequences = mean_songs (- ln p(x) / T)    nats per frame: each song counts alike

    Both averages are in use, and differ: papers rarely name theirs. For a model with latent
    variables, the bound stands in the place of ln p(x). In training its KL part has the weight
    min(1, (step + 1) / annealing); in evaluation the weight is 1.

    Arguments:
        name: name of the data set; it stands beside each number.
        sequences: sequences of each split, none empty.
        kind: kind of the frames.
        annealing: training steps until the KL part has the weight 1; 0 for 1 from the start.
        samples: draws of the importance-weighted bound; it is computed once after training.
        longest: frames of a training sequence, at most; longer ones are cut into parts that each
            start afresh; 0 for whole ones.
        goal: largest loss at which the task counts as solved; None where the best one is unknown:
            then it never does.
        note: source of the goal, or a note on the unit, in words.
        unit: unit of the loss.

    Inputs:
        (time, batch, width) float32 frames.

    Chance:
        values that are independent of each other and of the past: frequencies of binary values (1
        added to each count), Gaussians with the moments of the others, from the training frames, on
        the validation frames.

    Raises:
        ConfigurationError: an option out of range, or binary frames with other values.
        DataError: a split without sequences, a sequence without frames or of another width, or a
            value that is not finite.

    Example:
        >>> frames = [np.ones((3, 2), np.float32), np.zeros((1, 2), np.float32)]
        >>> splits = {"training": frames, "validation": frames, "test": frames}
        >>> task = FrameDensity("two", splits, Frames(2, binary=True))
        >>> batch = next(task.batches("validation", 2))
        >>> batch.x.shape, batch.lengths
        (torch.Size([3, 2, 2]), tensor([1, 3]))
    """

    answers = Likelihood()

    def __init__(
        self,
        name: str,
        sequences: Sequences,
        kind: Frames,
        *,
        annealing: int = 0,
        samples: int = 100,
        longest: int = 0,
        goal: float | None = None,
        note: str = "",
        unit: str = "nats per frame",
    ):
        check_at_least(f"annealing of task '{name}'", annealing, 0)
        check_at_least(f"samples of task '{name}'", samples, 1)
        check_at_least(f"longest of task '{name}'", longest, 0)
        self.name, self.unit = name, unit
        self.inputs: Frames = kind  # pyright: ignore[reportIncompatibleVariableOverride]
        self.annealing, self.samples = annealing, samples
        for split, given in sequences.items():
            _check(f"{split} sequences of task '{name}'", given, kind)
        self.sequences = dict(sequences)
        if longest:
            parts = (_parts(each, longest) for each in sequences["training"])
            self.sequences["training"] = [*itertools.chain.from_iterable(parts)]
        self.length = max(map(len, self.sequences["training"]))
        self.dependency_length = max(1, self.length - 1)
        self.chance_loss = _chance(sequences["training"], sequences["validation"], kind)
        self.goal = goal
        known = "none: the best loss is not known" if goal is None else f"at most {goal:.4g} {unit}"
        self.criterion = f"{known} ({note})" if note else known

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The loss, both averages, and the use of latent variables.

        For a model without latent variables, the importance-weighted loss is the loss, and the
        others are 0.
        """
        nats = self.unit
        return (
            Metric("loss", nats, "lower", self.chance_loss),
            Metric("mean_over_sequences", nats, "lower", tables=False),
            Metric("importance_weighted", nats, "lower"),
            Metric("kl", nats, "higher"),
            Metric("active_units", "units", "higher"),
            Metric("mutual_information", "nats", "higher", tables=False),
            Metric("nats_per_sequence", "nats", "lower", tables=False),
            Metric("standard_error", nats, "lower", tables=False),
        )

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[FrameBatch]:
        """Return batches of sequences of like length, or the held-out sequences by length.

        Arguments:
            split: "training", which never ends, or held-out sequences.
            size: sequences of a batch; the last one of an epoch, or of held-out sequences, may be
                smaller.
            seed: seed of the run.
            start: step of the first batch.
        """
        check_at_least("batch_size", size, 1)
        sequences = self.sequences[split]
        lengths = [len(each) for each in sequences]
        if split == "training":
            numbers = batches_by_length(lengths, size, seed, start, pool=_POOL)
            return (
                collated([sequences[k] for k in part], _seeds(len(part), seed, step))
                for step, part in enumerate(numbers, start)
            )
        order = sorted(range(len(sequences)), key=lambda k: (lengths[k], k))
        parts = (order[k : k + size] for k in range(start * size, len(order), size))
        first = _USUAL_SEED[split]
        return (
            collated([sequences[k] for k in part], torch.tensor(part) + first) for part in parts
        )

    def score(
        self, model: nn.Module, batch: FrameBatch, *, state: Any = None, step: int | None = None
    ) -> Score:
        """Return the negative log-likelihood, or bound, in nats per frame.

        Arguments:
            model: a `Density` or a `LatentDensity`.
            batch: sequences.
            state: unused.
            step: training step; None in evaluation, which also has the parts of the metrics.
        """
        del state
        losses, kl = losses_of(model, batch)
        frames = batch.lengths - (0 if batch.unscored is None else batch.unscored)
        frames = frames.to(losses.device)
        count = frames.sum()
        if step is not None:
            weighted = losses - (1 - self._weight(step)) * kl
            total = weighted.sum()
            return Score(total / count, {"loss": Mean(total.detach().double(), count)})
        total, n = losses.sum(), torch.tensor(batch.size, device=losses.device)
        kept, each = losses.detach().double(), frames.double()
        parts = {
            "loss": Mean(kept.sum(), count),
            "kl": Mean(kl.detach().double().sum(), count),
            "mean_over_sequences": Mean((kept / each).sum(), n),
            "nats_per_sequence": Mean(kept.sum(), n),
            "square": Mean(kept.square().sum(), n),
            "product": Mean((kept * each).sum(), n),
            "square_of_frames": Mean(each.square().sum(), n),
        }
        return Score(total / count, parts)

    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return the metrics, except those of `examine`.

        Arguments:
            parts: merged parts of scores in evaluation.
        """
        names = ("loss", "mean_over_sequences", "nats_per_sequence", "kl")
        return {name: parts[name].value for name in names} | {
            "standard_error": _standard_error(parts)
        }

    @torch.no_grad()
    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return the importance-weighted loss, active units, and mutual information.

        The last two need a model with `latents`.

        Arguments:
            model: trained model, in evaluation mode.
            split: held-out sequences.
        """
        like = next(model.parameters())
        at_once = max(1, _ROWS // self.samples) if isinstance(model, LatentDensity) else _ROWS
        total, count = 0.0, 0
        found: list[Latents] = []
        for batch in self.batches(split, min(at_once, 128)):
            x = batch.x.to(like)
            if isinstance(model, LatentDensity):
                log_prob = model.importance_weighted(
                    x, batch.lengths, samples=self.samples, random=batch.seeds
                )
            else:
                log_prob = -losses_of(model, batch._replace(x=x))[0]
            if isinstance(model, LatentLaws):
                found.append(model.latents(x, batch.lengths, random=batch.seeds))
            total -= float(log_prob.double().sum())
            count += int(batch.lengths.sum())
        numbers = {"importance_weighted": total / count}
        if found or not isinstance(model, LatentDensity):
            latents = Latents.joined(found) if found else None
            numbers["active_units"] = float(active_units(latents)) if latents else 0.0
            numbers["mutual_information"] = mutual_information(latents) if latents else 0.0
        return numbers

    def last_answers(self, batch: FrameBatch) -> FrameBatch:
        """Return the batch in float64 with the last frame of each sequence alone scored.

        Arguments:
            batch: sequences.
        """
        return batch._replace(x=batch.x.double(), unscored=batch.lengths - 1)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return True if the loss is at most the goal, where there is one.

        Arguments:
            metrics: held-out metrics.
        """
        return self.goal is not None and metrics["loss"] <= self.goal

    def _weight(self, step: int) -> float:
        return min(1.0, (step + 1) / self.annealing) if self.annealing else 1.0


def collated(
    sequences: Sequence[Float[np.ndarray, "_ width"]], seeds: Int[Tensor, " batch"]
) -> FrameBatch:
    """Return sequences as a batch, each padded with zeros to the longest.

    Arguments:
        sequences: sequences, none empty.
        seeds: seeds of their latent variables.

    Example:
        >>> collated([np.ones((2, 1)), np.ones((1, 1))], torch.tensor([0, 1])).x[:, :, 0].tolist()
        [[1.0, 1.0], [1.0, 0.0]]
    """
    lengths = torch.tensor([len(each) for each in sequences])
    x = np.zeros((int(lengths.max()), len(sequences), sequences[0].shape[1]), np.float32)
    for row, each in enumerate(sequences):
        x[: len(each), row] = each
    return FrameBatch(torch.from_numpy(x), lengths, seeds)


def losses_of(
    model: Any, batch: FrameBatch
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return -ln p(x) or the negative bound of each sequence in nats, and the KL part.

    Arguments:
        model: a `Density`, whose KL part is 0, or a `LatentDensity`.
        batch: sequences.
    """
    losses, kl = _losses(model, batch, batch.lengths)
    if batch.unscored is None:
        return losses, kl
    # the frames before are scored in the same way, with the same draws
    before, kl_before = _losses(model, batch, batch.unscored.clamp(min=1))
    some = (batch.unscored > 0).to(losses)
    return losses - some * before, kl - some * kl_before


def _losses(model: Any, batch: FrameBatch, lengths: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(model, LatentDensity):
        bound = model.bound(batch.x, lengths, random=batch.seeds)
        return bound.kl - bound.reconstruction, bound.kl
    losses = -model.log_prob(batch.x, lengths)
    return losses, torch.zeros_like(losses)


def _seeds(count: int, seed: int, step: int) -> Tensor:
    return torch.from_numpy(generator(seed, "latent variables", step).integers(2**62, size=count))


def _parts(sequence: np.ndarray, longest: int) -> list[np.ndarray]:
    return [sequence[k : k + longest] for k in range(0, len(sequence), longest)]


def _check(subject: str, sequences: Sequence[np.ndarray], kind: Frames) -> None:
    """Raise the error of sequences that are not of a kind."""
    if not sequences:
        raise DataError(subject, got="none", expected="at least one")
    for number, each in enumerate(sequences):
        if each.ndim != 2 or len(each) == 0 or each.shape[1] != kind.width:
            raise DataError(
                f"{subject}, number {number}",
                got=f"shape {each.shape}",
                expected=f"(frames, {kind.width}), at least one frame",
            )
        if not np.isfinite(each).all():
            raise DataError(
                f"{subject}, number {number}", got="NaN or infinity", expected="finite numbers"
            )
        binary = each if kind.binary else each[:, 2:] if kind.pen else each[:, :0]
        if not ((binary == 0) | (binary == 1)).all():
            value = binary[(binary != 0) & (binary != 1)][0]
            raise ConfigurationError(
                f"{subject}, number {number}",
                got=f"the value {value:.4g}",
                expected="0 and 1" + (" for the pen" if kind.pen else ""),
            )


def _chance(training: Sequence[np.ndarray], held_out: Sequence[np.ndarray], kind: Frames) -> float:
    """Return the loss of values that are independent of each other and of the past."""
    known = np.concatenate(training).astype(np.float64)
    x = np.concatenate(held_out).astype(np.float64)
    real = 0 if kind.binary else 2 if kind.pen else kind.width
    p = (known[:, real:].sum(0) + 1) / (len(known) + 2)
    bits = -(x[:, real:] * np.log(p) + (1 - x[:, real:]) * np.log1p(-p)).sum(1).mean()
    scale = np.maximum(known[:, :real].std(0), 1e-4)
    errors = (x[:, :real] - known[:, :real].mean(0)) / scale
    density = (0.5 * errors**2 + np.log(scale) + 0.5 * math.log(2 * math.pi)).sum(1).mean()
    return float(bits + density)


def _standard_error(parts: Mapping[str, Mean]) -> float:
    """Return the standard error of the mean over frames, of sequences drawn at random.

    It is that of a ratio, R = sum l / sum T: sqrt(sum (l - R T)^2 n / (n - 1)) / sum T.
    """
    n, ratio = int(parts["square"].count), parts["loss"].value
    squares = (
        float(parts["square"].total)
        - 2 * ratio * float(parts["product"].total)
        + ratio**2 * float(parts["square_of_frames"].total)
    )
    if n < 2:
        return math.nan
    return math.sqrt(max(squares, 0.0) * n / (n - 1)) / int(parts["loss"].count)
