"""Alignment: the weights of an attention over the source, at each target word."""

import dataclasses
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.foreign.unchanged import evaluating, unchanged
from throughtime.instruments.word_influence import (
    check_pairs,
    first_pairs,
    source_words,
    target_words,
)
from throughtime.models import EncoderDecoder
from throughtime.results.record import Record
from throughtime.tasks.pairs import PairBatch
from throughtime.tasks.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment(Record):
    """The weights of an attention over the words of a source, at each word of a target.

    Attributes:
        weights: weights in [0, 1], which sum to 1 over a source; NaN beyond a pair's lengths.
        source_words: words of each source, or numbers of its symbols.
        target_words: words of each target.
    """

    weights: Float[Tensor, "pairs target source"]
    source_words: tuple[tuple[str, ...], ...]
    target_words: tuple[tuple[str, ...], ...]

    @property
    def entropy(self) -> Float[Tensor, "pairs target"]:
        """The entropy of each target word's weights in nats: ln n for equal ones, 0 for one word.

        NaN beyond a target's length.
        """
        beyond = self.weights.isnan().all(-1)
        return torch.special.entr(self.weights).nansum(-1).masked_fill(beyond, torch.nan)


def alignment(
    model: nn.Module,
    batch: PairBatch,
    *,
    pairs: int = 8,
    vocabularies: Mapping[str, Vocabulary] | None = None,
) -> Alignment:
    """Return the weights of a model's attention after the true symbols of each target.

    The model is as it was afterwards.

    Arguments:
        model: EncoderDecoder with attention.
        batch: pairs of its task.
        pairs: most pairs of the batch that are shown, at least 1; the first ones.
        vocabularies: names of the symbols, "source" and "target".

    Returns:
        Weights in float64, on the CPU.

    Raises:
        ConfigurationError: another model, or one without attention; a batch that holds no pairs.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.memory import DotAttention
        >>> from throughtime.tasks.kinds import Pairs, Tokens
        >>> from throughtime.tasks.pairs import collated
        >>> model = EncoderDecoder(
        ...     Pairs(Tokens(9), Tokens(7)), GRU(4, 8), GRU(4, 8),
        ...     context="attention-after", attention=DotAttention(8, 8))
        >>> found = alignment(model, collated([([1, 2, 3], [1, 2])], 5, 6))
        >>> found.weights.shape, found.target_words
        (torch.Size([1, 3, 3]), (('1', '2', '6'),))

    Source:
        Bahdanau, Cho & Bengio, "Neural machine translation by jointly learning to align and
        translate", ICLR 2015, figure 3.
    """
    names = {} if vocabularies is None else vocabularies
    check_pairs(pairs, batch)
    if not (isinstance(model, EncoderDecoder) and isinstance(batch, PairBatch)):
        raise ConfigurationError(
            "alignment",
            got=f"{type(model).__name__} and {type(batch).__name__}",
            expected="an EncoderDecoder with attention, and pairs",
        )
    batch = first_pairs(batch, pairs)
    with unchanged(model), evaluating(model):
        state = model.encode(batch.source, batch.source_lengths)
        weights = model.alignment(batch.inputs, state).double().cpu().transpose(0, 1)
    sources, targets = source_words(batch, names), target_words(batch, names)
    known = torch.zeros(weights.shape, dtype=torch.bool)
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        known[row, : len(target), : len(source)] = True
    return Alignment(weights.masked_fill(~known, torch.nan), sources, targets)
