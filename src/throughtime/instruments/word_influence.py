"""Influence of words: the gradient of each target word's loss at each source word."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.core.sequence import reverse_time
from throughtime.models import EncoderDecoder, LanguageModel
from throughtime.results.record import Record
from throughtime.tasks.kinds import Vector
from throughtime.tasks.pairs import PairBatch
from throughtime.tasks.sequences import SequenceBatch
from throughtime.tasks.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class WordInfluence(Record):
    """The gradient of each target word's loss at each source word, and the steps between them.

    Attributes:
        norms: ||dL_i / de_j||, in nats per unit of the vector e_j; NaN beyond a pair's lengths and
            where no target is due.
        steps: recurrent steps between source word j and target word i; -1 where norms are NaN.
        source_words: words of each source, or numbers of its symbols.
        target_words: words of each target.
    """

    norms: Float[Tensor, "pairs target source"]
    steps: Int[Tensor, "pairs target source"]
    source_words: tuple[tuple[str, ...], ...]
    target_words: tuple[tuple[str, ...], ...]

    def by_steps(self) -> tuple[Int[Tensor, " distances"], Float[Tensor, " distances"]]:
        """Return the distances in steps, rising, and the mean norm at each, over all pairs."""
        known = self.steps >= 0
        steps, norms = self.steps[known], self.norms[known]
        distances, place, count = steps.unique(return_inverse=True, return_counts=True)
        total = norms.new_zeros(len(distances)).index_add(0, place, norms)
        return distances, total / count


def word_influence(
    model: nn.Module,
    batch: PairBatch | SequenceBatch,
    *,
    pairs: int = 8,
    vocabularies: Mapping[str, Vocabulary] | None = None,
) -> WordInfluence:
    """Measure the gradient of each target word's loss at the vector of each source word.

        g_ij = ||dL_i / de_j||        L_i = -log p(y_i | y_1 ... y_{i-1}, source)

    Under a language model, the source is the text before. The steps between word j of a source of n
    words and word i of its target, counted from 1, go through all states between them:

        forward:    n - j + i          n between words of one number
        reversed:   j - 1 + i          1, 3, 5, ... between words of one number
        both ways:  the smaller of the two
        text:       i - j              from the step that reads j to the one that predicts after i

    Paths through an attention, or through a context that every step reads, are shorter. The norms
    contain them; the steps do not count them.

    A copy of the model runs in float64, without dropout. It is differentiated once for each step of
    the target.

    Arguments:
        model: EncoderDecoder or LanguageModel.
        batch: pairs of its task; or its text, time first.
        pairs: most pairs of the batch that are measured, at least 1; the first ones.
        vocabularies: names of the symbols: "source" and "target", or "text".

    Returns:
        Norms in float64, and steps, on the CPU.

    Raises:
        ConfigurationError: another model, a batch that is not of its kind, a source of one vector,
            or no pair.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.tasks.kinds import Pairs, Tokens
        >>> from throughtime.tasks.pairs import collated
        >>> kinds, batch = Pairs(Tokens(9), Tokens(7)), collated([([1, 2, 3], [1, 2])], 5, 6)
        >>> model = EncoderDecoder(kinds, GRU(4, 8), GRU(4, 8))
        >>> word_influence(model, batch).steps[0].tolist()
        [[3, 2, 1], [4, 3, 2], [5, 4, 3]]
        >>> model = EncoderDecoder(kinds, GRU(4, 8), GRU(4, 8), reverse=True)
        >>> word_influence(model, batch).steps[0].diagonal().tolist()
        [1, 3, 5]

    Source:
        The distances are those of Sutskever, Vinyals & Le, "Sequence to sequence learning with
        neural networks", NIPS 2014, section 3.3, which does not measure the gradient.
    """
    names = {} if vocabularies is None else vocabularies
    check_pairs(pairs, batch)
    runs = copy.deepcopy(model).double().eval()
    if isinstance(runs, EncoderDecoder) and isinstance(batch, PairBatch):
        return _of_pairs(runs, first_pairs(batch, pairs), names)
    if isinstance(runs, LanguageModel) and isinstance(batch, SequenceBatch):
        return _of_text(runs, batch, pairs, names)
    raise ConfigurationError(
        "word_influence",
        got=f"{type(model).__name__} and {type(batch).__name__}",
        expected="an EncoderDecoder and pairs, or a LanguageModel and a text",
        fix="input_influence measures old inputs of any model.",
    )


def _of_pairs(
    model: EncoderDecoder, batch: PairBatch, names: Mapping[str, Vocabulary]
) -> WordInfluence:
    source, lengths = batch.source, batch.source_lengths
    if isinstance(model.encoder.kind, Vector):
        raise ConfigurationError(
            "word_influence", got="a source of one vector", expected="a source of several words"
        )
    if lengths is None:
        lengths = torch.full((batch.size,), len(source))
    if model.encoder.embedding is None:
        source = source.double().requires_grad_()
        read = [source]
        state = model.encode(source, lengths)
    else:
        with _leaves(model.encoder.embedding) as read:
            state = model.encode(source, lengths)
    losses, _ = model.losses(batch.inputs, batch.targets, state)
    norms = _norms(losses, read[0])
    if model.encoder.reverse and model.encoder.embedding is not None:
        norms = reverse_time(norms.movedim(2, 0), lengths).movedim(0, 2)
    j = torch.arange(1, len(source) + 1)[None, None]
    i = torch.arange(1, len(batch.targets) + 1)[None, :, None]
    forward, backward = lengths[:, None, None] - j + i, j - 1 + i
    both = model.encoder.layer is not None and model.encoder.layer.bidirectional
    one = backward if model.encoder.reverse else forward
    steps = torch.minimum(forward, backward) if both else one.expand_as(norms)
    due = (batch.targets.cpu() >= 0).T[..., None] & (j <= lengths[:, None, None])
    return _record(norms, steps, due, source_words(batch, names), target_words(batch, names))


def _of_text(
    model: LanguageModel, batch: SequenceBatch, most: int, names: Mapping[str, Vocabulary]
) -> WordInfluence:
    symbols, targets = batch.inputs[:, :most], batch.targets[:, :most]
    if model.embedding is None:
        x = model.embedded(symbols).requires_grad_()
        read = [x]
        losses, _ = model.losses(x, targets, None)
    else:
        with _leaves(model.embedding) as read:
            losses, _ = model.losses(symbols, targets, None)
    norms = _norms(losses, read[0])
    time = torch.arange(len(symbols))
    steps = (time[:, None] - time).expand_as(norms)
    due = (targets.cpu() >= 0).T[..., None] & (steps >= 0)
    vocabulary = names.get("text")
    sources = tuple(words_of(row, vocabulary) for row in symbols.T.tolist())
    return _record(
        norms, steps, due, sources, tuple(words_of(row, vocabulary) for row in targets.T.tolist())
    )


def _norms(losses: Tensor, read: Tensor) -> Float[Tensor, "pairs target source"]:
    """Return the norm of each step's gradient; the sequences of a batch have no part in others."""
    rows: list[Tensor] = []
    for loss in losses:
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss.sum(), read, retain_graph=True)
            rows.append(gradient.norm(dim=-1).cpu())
        else:
            rows.append(torch.zeros(read.shape[:2], dtype=torch.float64))
    return torch.stack(rows).permute(2, 0, 1)


def _record(
    norms: Tensor,
    steps: Tensor,
    due: Tensor,
    sources: tuple[tuple[str, ...], ...],
    targets: tuple[tuple[str, ...], ...],
) -> WordInfluence:
    steps = torch.where(due, steps, -1)
    return WordInfluence(norms.masked_fill(~due, torch.nan), steps, sources, targets)


@contextlib.contextmanager
def _leaves(embedding: nn.Embedding) -> Iterator[list[Tensor]]:
    """Make the outputs of an embedding leaves of the graph, and yield their list."""
    found: list[Tensor] = []

    def cut(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        del module, inputs
        found.append(output.detach().requires_grad_())
        return found[-1]

    handle = embedding.register_forward_hook(cut)
    try:
        yield found
    finally:
        handle.remove()


def check_pairs(pairs: int, batch: Any) -> None:
    """Check a number of pairs.

    Arguments:
        pairs: the number.
        batch: the batch that they are from.

    Raises:
        ConfigurationError: it is below 1, or the batch is empty.
    """
    if pairs < 1 or getattr(batch, "size", 1) < 1:
        got = f"{pairs} of {getattr(batch, 'size', 1)}"
        raise ConfigurationError("pairs", got=got, expected="at least one")


def first_pairs(batch: PairBatch, count: int) -> PairBatch:
    """Return the first pairs of a batch.

    Arguments:
        batch: pairs.
        count: their largest number.
    """
    vector = batch.source_lengths is None
    lengths = None if batch.source_lengths is None else batch.source_lengths[:count]
    return PairBatch(
        batch.source[:count] if vector and batch.source.dim() == 2 else batch.source[:, :count],
        lengths,
        batch.inputs[:, :count],
        batch.targets[:, :count],
    )


def words_of(numbers: Sequence[int], vocabulary: Vocabulary | None) -> tuple[str, ...]:
    """Return the spelling of some symbols, "" of numbers below 0.

    Arguments:
        numbers: numbers of symbols.
        vocabulary: vocabulary with the spellings; None for the numbers themselves.
    """
    if vocabulary is None:
        return tuple("" if n < 0 else str(n) for n in numbers)
    return tuple("" if n < 0 else vocabulary.symbols[n] for n in numbers)


def source_words(batch: PairBatch, names: Mapping[str, Vocabulary]) -> tuple[tuple[str, ...], ...]:
    """Return the words of each source, without padding; positions from 1 for vectors.

    Arguments:
        batch: pairs.
        names: the vocabulary "source", where there is one.
    """
    time, lengths = len(batch.source), batch.source_lengths
    ends = [time] * batch.size if lengths is None else lengths.tolist()
    if batch.source.is_floating_point():
        return tuple(tuple(str(k + 1) for k in range(n)) for n in ends)
    rows = zip(batch.source.T.tolist(), ends, strict=True)
    return tuple(words_of(row[:n], names.get("source")) for row, n in rows)


def target_words(batch: PairBatch, names: Mapping[str, Vocabulary]) -> tuple[tuple[str, ...], ...]:
    """Return the words of each target with its end, without padding.

    Arguments:
        batch: pairs.
        names: the vocabulary "target", where there is one.
    """
    rows = batch.targets.T.tolist()
    return tuple(words_of([n for n in row if n >= 0], names.get("target")) for row in rows)
