"""Dialogues: their batches, and the score of a model's replies."""

import abc
import itertools
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.density import LatentDensity
from throughtime.core.errors import ConfigurationError, DataError
from throughtime.core.latent import Latents, active_units, mutual_information
from throughtime.core.scoring import Mean, Metric, Score, perplexity
from throughtime.tasks.kinds import Dialogues, Likelihood
from throughtime.tasks.seeding import batches_by_length
from throughtime.tasks.task import Split, Task, check_at_least

Dialogue: TypeAlias = Sequence[Sequence[int]]
"""The symbols of each utterance, without begin and end."""


class DialogueBatch(NamedTuple):
    """Dialogues, turn by turn.

    Attributes:
        symbols: (turn, time, batch) int64: each utterance and the symbol that ends it; that symbol
            beyond.
        lengths: (turn, batch) int64 on the CPU: symbols of each utterance, its end included; 0
            behind the last turn.
        targets: (turn, time, batch) int64: the symbols of each utterance but the first, which has
            no context; -1 where none is due.
    """

    symbols: Int[Tensor, "turn time batch"]
    lengths: Int[Tensor, "turn batch"]
    targets: Int[Tensor, "turn time batch"]

    @property
    def size(self) -> int:
        """The number of dialogues."""
        return self.symbols.shape[2]

    def to(self, device: torch.device) -> "DialogueBatch":
        """Return the batch on a device; lengths stay on the CPU.

        Arguments:
            device: device of the model.
        """
        return DialogueBatch(self.symbols.to(device), self.lengths, self.targets.to(device))


def collated(dialogues: Sequence[Dialogue], end: int) -> DialogueBatch:
    """Return dialogues as a batch, padded to the most turns and the longest utterance.

    Arguments:
        dialogues: symbols of each utterance of each dialogue.
        end: symbol that ends an utterance.

    Example:
        >>> batch = collated([[[5, 6], [7]], [[5], [6], [7]]], end=2)
        >>> batch.lengths.T.tolist()
        [[3, 2, 0], [2, 2, 2]]
        >>> batch.targets[..., 0].tolist()
        [[-1, -1, -1], [7, 2, -1], [-1, -1, -1]]
    """
    turns = max(len(dialogue) for dialogue in dialogues)
    time = max(len(utterance) for dialogue in dialogues for utterance in dialogue) + 1
    symbols = np.full((turns, time, len(dialogues)), end, np.int64)
    lengths = np.zeros((turns, len(dialogues)), np.int64)
    for row, dialogue in enumerate(dialogues):
        for turn, utterance in enumerate(dialogue):
            symbols[turn, : len(utterance), row] = utterance
            lengths[turn, row] = len(utterance) + 1
    due = np.arange(time)[None, :, None] < lengths[:, None]
    due[0] = False
    targets = np.where(due, symbols, -1)
    return DialogueBatch(*map(torch.from_numpy, (symbols, lengths, targets)))


class ReplyRows(NamedTuple):
    """The replies of a batch as sequences side by side: all utterances but first ones.

    Attributes:
        turn: turn of each, from 1.
        dialogue: row of its dialogue in the batch.
        inputs: (time, row): the symbol that begins an utterance, then the reply.
        targets: (time, row): the reply and its end; -1 where none is due.
    """

    turn: Int[Tensor, " row"]
    dialogue: Int[Tensor, " row"]
    inputs: Int[Tensor, "time row"]
    targets: Int[Tensor, "time row"]

    def due(self, targets: Int[Tensor, "turn time batch"]) -> "ReplyRows":
        """Return the replies with targets of a batch, some of which may be left out.

        Arguments:
            targets: symbols of the utterances; -1 where none is due.
        """
        own = targets.transpose(1, 2)[self.turn, self.dialogue].T
        return self._replace(targets=torch.where(self.targets >= 0, own, -1))


def reply_rows(
    symbols: Int[Tensor, "turn time batch"], lengths: Int[Tensor, "turn batch"], begin: int
) -> ReplyRows:
    """Return the replies of dialogues, turn by turn.

    Arguments:
        symbols: utterances and their ends.
        lengths: symbols of each, its end included; 0 behind the last turn.
        begin: symbol that begins an utterance.

    Example:
        >>> batch = collated([[[5, 6], [7]], [[5], [6], [7]]], end=2)
        >>> rows = reply_rows(batch.symbols, batch.lengths, begin=1)
        >>> rows.turn.tolist(), rows.dialogue.tolist(), rows.inputs[:2].T.tolist()
        ([1, 1, 2], [0, 1, 1], [[1, 7], [1, 6], [1, 7]])
    """
    turn, dialogue = lengths[1:].nonzero(as_tuple=True)
    turn = turn + 1
    there = turn.to(symbols.device), dialogue.to(symbols.device)
    text = symbols.transpose(1, 2)[there].T
    count = lengths[turn, dialogue].to(symbols.device)
    steps = torch.arange(len(text), device=symbols.device)[:, None]
    inputs = torch.cat([torch.full_like(text[:1], begin), text[:-1]])
    return ReplyRows(*there, inputs, torch.where(steps < count, text, -1))


_GROUP = 1.25  # the longest sequence of a group over its shortest


def length_groups(lengths: Int[Tensor, " row"]) -> Iterator[tuple[int, Int[Tensor, " rows"]]]:
    """Yield groups of sequences of about equal lengths: the longest length, and their numbers.

    Steps behind the end of a sequence are computed in vain: groups have few of them.

    Arguments:
        lengths: steps of each sequence, at least 1.

    Example:
        >>> [(most, rows.tolist()) for most, rows in length_groups(torch.tensor([3, 40, 4, 9]))]
        [(9, [0, 2, 3]), (40, [1])]
    """
    order = lengths.argsort(descending=True, stable=True)
    ordered = lengths[order].tolist()
    groups: list[tuple[int, Tensor]] = []
    start = 0
    while start < len(ordered):
        # short ones together: a call has a cost of its own
        least = min(ordered[start] / _GROUP, ordered[start] - _STEPS)
        stop = next((k for k in range(start, len(ordered)) if ordered[k] < least), len(ordered))
        groups.append((ordered[start], order[start:stop].sort().values))
        start = stop
    yield from reversed(groups)


_STEPS = 6  # steps in vain that cost less than another call: our choice


class DialogueTask(Task):
    """A task of replies in dialogues. The first utterance is read alone: it has no context.

    A model has `replies`: the states of a decoder before each reply, and their KL divergences. The
    loss of a model with latent variables is the negative bound.

        loss = (sum -log p(u_n | u_1 ... u_{n-1}, z_n) + weight KL) / number of symbols
        KL = sum KL_n                                  in evaluation, with a weight of 1
        KL = max(sum KL_n, free_nats * replies)        in training
        weight = min(1, (step + 1) / annealing)        in training, where a model may add a term

    In evaluation the draws of a dialogue are a function of its symbols, so that a result does not
    depend on the batch around it.

    Attributes:
        begin: symbol that begins an utterance.
        end: symbol that ends one; it is due, and counts, as any other.
        annealing: steps in which the weight of the KL divergence rises to 1; 0 for 1 at once.
        free_nats: KL divergence in nats an utterance that has no cost in training (Kingma et al.
            2016, here of the whole variable and batch): latent variables stay in use.
        samples: draws of the latent variables for the importance-weighted perplexity.
        chance_loss: loss of the frequencies of the training symbols, in nats a symbol.
    """

    inputs: Dialogues  # pyright: ignore[reportIncompatibleVariableOverride]
    answers = Likelihood()
    begin: int
    end: int
    annealing: int
    free_nats: float
    samples: int
    chance_loss: float

    @abc.abstractmethod
    def spoken(self, split: Split) -> Sequence[Sequence[str]]:
        """Return the texts of the utterances of each dialogue of a split.

        Arguments:
            split: training or held-out data.
        """

    @property
    @final
    def metrics(self) -> tuple[Metric, ...]:
        """Perplexity, loss and KL divergence, and the metrics of `examine`."""
        chance = self.chance_loss
        return (
            Metric("perplexity", "per symbol", "lower", perplexity(chance)),
            Metric("loss", "nats", "lower", chance, tables=False),
            Metric("kl", "nats an utterance", "higher", tables=False),
            Metric("importance_weighted_perplexity", "per symbol", "lower"),
            Metric("active_units", "units", "higher", tables=False),
            Metric("mutual_information", "nats an utterance", "higher", tables=False),
        )

    @final
    def score(
        self, model: nn.Module, batch: DialogueBatch, *, state: Any = None, step: int | None = None
    ) -> Score:
        """Return the loss of the replies in nats a symbol.

        Arguments:
            model: model with `replies` and `losses`.
            batch: dialogues.
            state: unused.
            step: training step; None in evaluation.
        """
        del state
        given: Any = model
        random = seeds_of(batch) if step is None else None
        rows, start, kl, auxiliary = given.replies(batch.symbols, batch.lengths, random)
        rows = rows.due(batch.targets)
        due = rows.targets >= 0
        total = grouped_losses(given, rows, start).sum()
        count = due.sum()
        kept = due.any(0)  # all, but where a caller leaves targets out
        divergence = kl[kept].sum()
        cost = divergence
        if step is not None:
            weight = min(1.0, (step + 1) / self.annealing) if self.annealing else 1.0
            cost = weight * divergence.clamp(min=self.free_nats * int(kept.sum()))
            cost = cost + auxiliary[kept].sum()
        loss = total + cost
        parts = {
            "loss": Mean(loss.detach().double(), count),
            "kl": Mean(divergence.detach().double(), kept.sum()),
        }
        return Score(loss / count, parts)

    @final
    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return "loss" in nats a symbol, "perplexity" (its exponential) and "kl" an utterance.

        Of a model with latent variables, the loss is a bound from above, and so is the perplexity.

        Arguments:
            parts: merged parts of scores in evaluation.
        """
        loss = parts["loss"].value
        return {"loss": loss, "perplexity": perplexity(loss), "kl": parts["kl"].value}

    @final
    @torch.no_grad()
    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return the importance-weighted perplexity, and how far latent variables are used.

        That is "active_units" and "mutual_information" in nats an utterance: see
        `throughtime.core.latent`. Without latent variables the perplexity is exact, and both are 0.

        Arguments:
            model: trained model, in evaluation mode.
            split: held-out data.
        """
        given: Any = model
        device = next(model.parameters()).device
        total, count = 0.0, 0
        latents: list[Latents] = []
        for whole in self.held_out(split):
            batch = whole.to(device)
            count += int((batch.targets >= 0).sum())
            text = batch.symbols, batch.lengths
            if not isinstance(model, LatentDensity):
                total += float(given.log_prob(*text).double().sum())
                continue
            found = given.importance_weighted(*text, samples=self.samples, random=seeds_of(batch))
            total += float(found.double().sum())
            latents.append(given.latents(*text))
        joined = Latents.joined(latents) if latents else None
        return {
            "importance_weighted_perplexity": perplexity(-total / count),
            "active_units": float(active_units(joined)) if joined else 0.0,
            "mutual_information": mutual_information(joined) if joined else 0.0,
        }

    @final
    def last_answers(self, batch: DialogueBatch) -> DialogueBatch:
        """Return the batch with the end of the last utterance of each dialogue alone.

        Arguments:
            batch: dialogues.
        """
        last = (batch.lengths > 0).sum(0) - 1
        dialogues = torch.arange(batch.size)
        at = last, batch.lengths[last, dialogues] - 1, dialogues
        targets = torch.full_like(batch.targets, -1)
        targets[at] = batch.targets[at]
        return batch._replace(targets=targets)

    @final
    def held_out(self, split: Split) -> Iterator[DialogueBatch]:
        """Return the batches of held-out data, 32 dialogues each.

        Arguments:
            split: held-out data.
        """
        return self.batches(split, 32)  # pyright: ignore[reportReturnType]


def grouped_losses(model: Any, rows: ReplyRows, start: Any) -> Float[Tensor, " row"]:
    """Return the negative log-likelihood of each reply, computed in groups of similar length.

    Arguments:
        model: model of the next symbol.
        rows: replies.
        start: its state before each.
    """
    steps = torch.arange(1, len(rows.targets) + 1, device=rows.targets.device)[:, None]
    lengths = torch.where(rows.targets >= 0, steps, 1).max(0).values
    parts: list[Tensor] = []
    places: list[Tensor] = []
    for most, numbers in length_groups(lengths):
        state = model.select(start, numbers)
        found, _ = model.losses(rows.inputs[:most, numbers], rows.targets[:most, numbers], state)
        parts.append(found.sum(0))
        places.append(numbers)
    return torch.cat(parts)[torch.cat(places).argsort()]


def seeds_of(batch: DialogueBatch) -> Int[Tensor, " batch"]:
    """Return a seed for each dialogue, which is a function of its symbols alone.

    Arguments:
        batch: dialogues.
    """
    symbols, lengths = batch.symbols.cpu().numpy(), batch.lengths.numpy()
    seeds: list[int] = []
    for row in range(batch.size):
        seed = 0
        for turn, length in enumerate(lengths[:, row]):
            utterance = np.ascontiguousarray(symbols[turn, :length, row])
            seed = zlib.crc32(utterance.tobytes(), seed)
        seeds.append(seed)
    return torch.tensor(seeds)


def check_latent_options(task: str, annealing: int, free_nats: float, samples: int) -> None:
    """Raise ConfigurationError for options of latent variables that are out of range.

    Arguments:
        task: name of the task, for the message.
        annealing, free_nats, samples: options of a `DialogueTask`.
    """
    check_at_least(f"annealing of task {task!r}", annealing, 0)
    check_at_least(f"samples of task {task!r}", samples, 1)
    if not 0 <= free_nats < math.inf:
        raise ConfigurationError(
            f"free_nats of task {task!r}", got=free_nats, expected="a number of at least 0"
        )


def check_dialogue(subject: str, turns: int, fix: str = "") -> None:
    """Raise DataError for a dialogue without a reply.

    Arguments:
        subject: name of the dialogue, for the message.
        turns: number of its utterances.
        fix: a sentence with a remedy.
    """
    if turns < 2:
        raise DataError(
            subject, got=f"{turns} utterance", expected="at least 2: one, and a reply", fix=fix
        )


_POOL = 50  # batches that are sorted together: more have less padding, and less variety


class DialogueSet(DialogueTask):
    """A task of fixed dialogues for each split.

    Batches hold dialogues of about as many turns. Each epoch of training has an order of its own.

    Attributes:
        dialogues: symbols of the dialogues of each split.
    """

    dialogues: Mapping[Split, Sequence[Dialogue]]

    @final
    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[DialogueBatch]:
        """Return batches in the order of (seed, epoch), or held-out dialogues by their turns.

        Arguments:
            split: "training", which never ends, or held-out dialogues.
            size: dialogues of a batch; the last one of an epoch, or of held-out data, may be
                smaller.
            seed: seed of the run.
            start: step of the first batch.
        """
        check_at_least("batch_size", size, 1)
        dialogues = self.dialogues[split]
        keys = [(len(each), sum(map(len, each))) for each in dialogues]
        if split == "training":
            numbers = batches_by_length(keys, size, seed, start, pool=_POOL)
        else:
            order = sorted(range(len(dialogues)), key=keys.__getitem__)
            numbers = iter([order[k : k + size] for k in range(start * size, len(order), size)])
        return (collated([dialogues[k] for k in part], self.end) for part in numbers)


def chance_of(
    training: Sequence[Dialogue], held_out: Sequence[Dialogue], alphabet: int, end: int
) -> float:
    """Return the loss of frequencies, 1 added to each count, in nats a symbol.

    Arguments:
        training: dialogues whose replies are counted.
        held_out: dialogues whose replies are scored.
        alphabet: number of symbols.
        end: symbol that ends an utterance.
    """
    counts = Counter(_reply_symbols(training, end))
    total = sum(counts.values()) + alphabet
    nats = [math.log(total / (counts[s] + 1)) for s in _reply_symbols(held_out, end)]
    return sum(nats) / len(nats)


def _reply_symbols(dialogues: Sequence[Dialogue], end: int) -> Iterator[int]:
    replies = itertools.chain.from_iterable(dialogue[1:] for dialogue in dialogues)
    return (symbol for reply in replies for symbol in (*reply, end))
