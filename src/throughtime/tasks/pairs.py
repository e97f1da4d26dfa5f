"""Pairs of a source and a target: their batches, their score, and greedy decoding."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from throughtime.core.decoding import NextSymbol, drawn_symbols, mixed_losses
from throughtime.core.sampling import Sampling
from throughtime.core.scoring import Mean, Score, perplexity
from throughtime.core.state import state_tensors
from throughtime.tasks.kinds import Likelihood, Pairs
from throughtime.tasks.seeding import batches_by_length
from throughtime.tasks.task import Split, Task, check_at_least

Symbols: TypeAlias = Sequence[int] | Int[np.ndarray, " length"]
Pair: TypeAlias = tuple[Any, Symbols]
"""A source (symbols, or an array of one vector or of several) and the symbols of its target."""


class PairBatch(NamedTuple):
    """Sources and targets, time first.

    Attributes:
        source: (time, batch) int64 symbols, (time, batch, width) vectors, or (batch, width) one
            vector each; 0 beyond a source's length.
        source_lengths: (batch,) int64 on the CPU; None for one vector.
        inputs: (time, batch) int64: the symbol that begins a target, then the target.
        targets: (time, batch) int64: the target, then the symbol that ends it, then -1.
    """

    source: Tensor
    source_lengths: Int[Tensor, " batch"] | None
    inputs: Int[Tensor, "time batch"]
    targets: Int[Tensor, "time batch"]

    @property
    def size(self) -> int:
        """The number of pairs."""
        return self.inputs.shape[1]

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch on a device; lengths stay on the CPU.

        Arguments:
            device: device of the model.
        """
        moved = (t.to(device) for t in (self.source, self.inputs, self.targets))
        source, inputs, targets = moved
        return PairBatch(source, self.source_lengths, inputs, targets)


def collated(pairs: Sequence[Pair], begin: int, end: int) -> PairBatch:
    """Return pairs as a batch, each padded to the longest.

    Arguments:
        pairs: sources and targets, none empty.
        begin: symbol that begins a target.
        end: symbol that ends one.

    Example:
        >>> batch = collated([([1, 2], [3]), ([1], [4, 5])], begin=7, end=8)
        >>> batch.source.T.tolist(), batch.inputs.T.tolist(), batch.targets.T.tolist()
        ([[1, 2], [1, 0]], [[7, 3, 8], [7, 4, 5]], [[3, 8, -1], [4, 5, 8]])
    """
    sources = [np.asarray(source) for source, _ in pairs]
    one_vector = sources[0].dtype.kind == "f" and sources[0].ndim == 1
    if one_vector:
        source, lengths = torch.from_numpy(np.stack(sources).astype(np.float32)), None
    else:
        lengths = torch.tensor([len(s) for s in sources])
        shape = (int(lengths.max()), len(pairs), *sources[0].shape[1:])
        whole = sources[0].dtype.kind != "f"
        padded = np.zeros(shape, np.int64 if whole else np.float32)
        for row, given in enumerate(sources):
            padded[: len(given), row] = given
        source = torch.from_numpy(padded)
    most = max(len(target) for _, target in pairs) + 1
    inputs = np.full((most, len(pairs)), end, np.int64)
    targets = np.full((most, len(pairs)), -1, np.int64)
    inputs[0] = begin
    for row, (_, target) in enumerate(pairs):
        inputs[1 : len(target) + 1, row] = target
        targets[: len(target), row] = target
        targets[len(target), row] = end
    return PairBatch(source, lengths, torch.from_numpy(inputs), torch.from_numpy(targets))


class PairTask(Task):
    """A task of targets that follow from sources.

    Attributes:
        begin: symbol that begins a target.
        end: symbol that ends one; it is due, and counts, as any other.
    """

    inputs: Pairs  # pyright: ignore[reportIncompatibleVariableOverride]
    answers = Likelihood()
    begin: int
    end: int

    @final
    def score(
        self, model: nn.Module, batch: PairBatch, *, state: Any = None, step: int | None = None
    ) -> Score:
        """Return the mean negative log-likelihood of the targets' symbols in nats.

        Arguments:
            model: model with `encode` and `losses`.
            batch: pairs.
            state: unused.
            step: training step; None in evaluation, which also has the part "accuracy": the
                fraction of symbols that are the likeliest ones, after the right symbols.
        """
        del state
        start = model.encode(batch.source, batch.source_lengths)  # pyright: ignore[reportCallIssue]
        nll, _ = model.losses(batch.inputs, batch.targets, start)  # pyright: ignore[reportCallIssue]
        due = batch.targets >= 0
        count = due.sum()
        total = nll.sum()
        parts = {"loss": Mean(total.detach().double(), count)}
        if step is None:
            logits, _ = model(batch.inputs, start)
            right = (logits.argmax(-1) == batch.targets) & due
            parts["accuracy"] = Mean(right.sum(), count)
        return Score(total / count, parts)

    @final
    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return "loss" in nats a symbol, "perplexity" (its exponential) and "accuracy".

        Arguments:
            parts: merged parts of scores in evaluation.
        """
        loss = parts["loss"].value
        return {"loss": loss, "perplexity": perplexity(loss), "accuracy": parts["accuracy"].value}

    @final
    def last_answers(self, batch: PairBatch) -> PairBatch:
        """Return the batch in float64 with the symbol that ends each target alone.

        Arguments:
            batch: pairs.
        """
        source = batch.source.double() if batch.source.is_floating_point() else batch.source
        last = (batch.targets >= 0).sum(0) - 1
        steps = torch.arange(len(batch.targets), device=last.device)[:, None]
        targets = torch.where(steps == last, batch.targets, -1)
        return batch._replace(source=source, targets=targets)


class PairSet(PairTask):
    """A task of a fixed set of pairs for each split.

    Batches hold pairs of about the same length. Each epoch of training has an order of its own.

    Attributes:
        pairs: the pairs of each split.
    """

    pairs: Mapping[Split, Sequence[Pair]]

    @final
    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[PairBatch]:
        """Return batches in the order of (seed, epoch), or the held-out pairs by length.

        Arguments:
            split: "training", which never ends, or held-out pairs.
            size: pairs of a batch; the last one of an epoch, or of held-out pairs, may be smaller.
            seed: seed of the run.
            start: step of the first batch.
        """
        check_at_least("batch_size", size, 1)
        pairs = self.pairs[split]
        if split == "training":
            numbers = training_order(pairs, size, seed, start)
        else:
            order = sorted(range(len(pairs)), key=lambda k: _lengths(pairs[k]))
            numbers = iter([order[k : k + size] for k in range(start * size, len(order), size)])
        return (collated([pairs[k] for k in part], self.begin, self.end) for part in numbers)


_POOL = 50  # batches that are sorted together: more have less padding, and less variety


def training_order(
    pairs: Sequence[Pair], size: int, seed: int, start: int = 0
) -> Iterator[Sequence[int]]:
    """Yield the numbers of the pairs of each batch, epoch after epoch.

    An epoch's random order is cut into pools of 50 batches. Each pool is sorted by length and cut
    into batches, whose order is random again.

    Arguments:
        pairs: training pairs.
        size: pairs of a batch.
        seed: seed of the run.
        start: step of the first batch.
    """
    return batches_by_length([_lengths(pair) for pair in pairs], size, seed, start, pool=_POOL)


def _lengths(pair: Pair) -> tuple[int, int]:
    """Return what pairs are sorted by: the longer side first, then both together."""
    source, target = len(pair[0]), len(pair[1])
    return max(source, target), source + target


@torch.no_grad()
def greedy(
    model: NextSymbol, state: Any, count: int, *, begin: int, end: int, most: int
) -> list[list[int]]:
    """Return the likeliest symbol of each step, until the end of each sequence.

    Arguments:
        model: model of the next symbol.
        state: state before the first symbol.
        count: number of sequences.
        begin: first symbol that is read.
        end: symbol that ends a sequence; it is not returned.
        most: largest number of symbols of a sequence.
    """
    first = torch.full((1, count), begin, device=state_tensors(state)[0].device)
    likeliest = Sampling(temperature=0).draw
    steps: list[Tensor] = []
    over = torch.zeros(count, dtype=torch.bool, device=first.device)
    for drawn in drawn_symbols(model, first, state, torch.zeros(most, count), likeliest):
        steps.append(drawn)
        over = over | (drawn == end)
        if bool(over.all()):
            break
    texts = torch.stack(steps, 1).tolist() if steps else [[] for _ in range(count)]
    return [text[: text.index(end)] if end in text else text for text in texts]


_AT_ONCE = 128  # sequences of a batch of `greedy_texts`


def greedy_texts(
    model: nn.Module, pairs: Sequence[Pair], *, begin: int, end: int, most: int
) -> list[list[int]]:
    """Return the result of `greedy` for each source, in their order.

    Arguments:
        model: model with `encode`.
        pairs: sources, and their targets, which are not read.
        begin: first symbol that is read.
        end: symbol that ends a sequence.
        most: largest number of symbols of a sequence.
    """
    order = sorted(range(len(pairs)), key=lambda k: len(pairs[k][0]))
    found: list[list[int]] = [[] for _ in pairs]
    for first in range(0, len(order), _AT_ONCE):
        part = order[first : first + _AT_ONCE]
        batch = _for(model, collated([pairs[k] for k in part], begin, end))
        state = model.encode(batch.source, batch.source_lengths)  # pyright: ignore[reportCallIssue]
        done = greedy(model, state, len(part), begin=begin, end=end, most=most)  # pyright: ignore[reportArgumentType]
        for k, symbols in zip(part, done, strict=True):
            found[k] = symbols
    return found


def sequence_accuracy(
    model: nn.Module, pairs: Sequence[Pair], *, begin: int, end: int, most: int
) -> float:
    """Return the fraction of targets that greedy decoding gives whole.

    Arguments:
        model: model with `encode`.
        pairs: sources and targets.
        begin: first symbol that is read.
        end: symbol that ends a sequence.
        most: largest number of symbols of a target.
    """
    found = greedy_texts(model, pairs, begin=begin, end=end, most=most + 1)
    whole = [got == list(target) for got, (_, target) in zip(found, pairs, strict=True)]
    return sum(whole) / len(whole)


@torch.no_grad()
def free_running_loss(model: nn.Module, batches: Iterable[PairBatch]) -> float:
    """Return the loss of the true symbols, in nats, after symbols that the model has drawn.

    The first symbol that is read is the one that begins a target. Draws are the same each time.

    Arguments:
        model: model with `encode`.
        batches: pairs.
    """
    random = torch.Generator().manual_seed(0)
    total, count = 0.0, 0
    for given in batches:
        batch = _for(model, given)
        state = model.encode(batch.source, batch.source_lengths)  # pyright: ignore[reportCallIssue]
        none = torch.zeros(batch.inputs.shape, dtype=torch.bool)
        losses, _ = mixed_losses(model, batch.inputs, batch.targets, state, none, random)  # pyright: ignore[reportArgumentType]
        total += float(losses.double().sum())
        count += int((batch.targets >= 0).sum())
    return total / count


def _for(model: nn.Module, batch: PairBatch) -> PairBatch:
    """Return a batch on a model's device, vectors in its precision."""
    like = next(model.parameters())
    batch = batch.to(like.device)
    vectors = batch.source.is_floating_point()
    return batch._replace(source=batch.source.to(like.dtype)) if vectors else batch
