"""The words nearest to a query by cosine, from an index that each write updates in place."""

from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.memory.blanks import Blanks, lost
from throughtime.memory.controller import FLOOR
from throughtime.memory.inverted import InvertedLists

IndexName: TypeAlias = Literal["auto", "exact", "inverted"]

LARGEST_EXACT = 2**14
"""Words up to which "auto" compares all of them."""
_BLOCK = 64  # scores of which only the largest is compared at first


@final
class Index:
    """The words with the largest scores, exactly or by inverted lists.

        s_j = q . m_j / sqrt(m_j . m_j + 1e-6)         the length of q changes no order

    Words of zeros have the score 0; of them those with the lowest numbers are found. The exact
    search leaves out the words behind the last that is not zero, but for as many as are found.

    Arguments:
        memory: the memory, which the caller changes in place.
        reads: number of words that a query finds, at most `words`.
        kind: "exact"; "inverted", which finds nearly all; or "auto", the exact one up to 16,384
            words that are not zero, and on other devices than the CPU.

    Example:
        >>> memory = torch.zeros(1, 9, 2)
        >>> index = Index(memory, reads=2)
        >>> memory[0, 5] = torch.tensor([3.0, 4.0])
        >>> index.update(torch.tensor([[5]]), memory[:, 5:6])
        >>> index.search(torch.tensor([[[1.0, 1.0], [-1.0, 0.0]]])).tolist()
        [[[5, 0], [0, 1]]]
    """

    def __init__(
        self, memory: Float[Tensor, "batch words width"], reads: int, kind: IndexName = "auto"
    ):
        self._memory, self._reads, self._kind = memory, reads, kind
        self._scale = _scale(memory)
        self._blanks = Blanks(memory, reads)
        self._lists: list[InvertedLists] = []
        self._choose()

    def _choose(self) -> None:
        """Build the inverted lists of all sequences, where it is time for them."""
        large = self._blanks.top > LARGEST_EXACT and self._memory.is_cpu
        if self._lists or not (self._kind == "inverted" or (self._kind == "auto" and large)):
            return
        for b, (memory, scale) in enumerate(zip(self._memory, self._scale, strict=True)):
            self._lists.append(InvertedLists(memory, scale, self._blanks.filled(b)))

    def update(
        self, places: Int[Tensor, "rows places"], content: Float[Tensor, "rows places width"]
    ) -> None:
        """Enter the new content of some words.

        Arguments:
            places: numbers of words, of the first sequences of the batch.
            content: content of these words.
        """
        self._scale[: len(places)].scatter_(1, places, _scale(content))
        self._blanks.update(places, content)
        for lists, own, rows in zip(self._lists, places, content, strict=False):
            lists.update(own, rows)
        self._choose()

    def search(self, query: Float[Tensor, "rows heads width"]) -> Int[Tensor, "rows heads reads"]:
        """Return the words with the largest scores, the largest first.

        Arguments:
            query: queries, of the first sequences of the batch.
        """
        if self._lists:
            found = [self._by_lists(b, own) for b, own in enumerate(query)]
            best = torch.stack(found) if found else query.new_zeros(0, 1, 1, dtype=torch.int64)
        else:
            best = largest(self._scores(query), self._reads)
        places = self._blanks.in_order(best.cpu().numpy())
        return torch.from_numpy(places).to(query.device)

    def _scores(self, query: Float[Tensor, "rows heads width"]) -> Float[Tensor, "rows heads top"]:
        rows, count = len(query), min(self._blanks.top + self._reads, self._memory.shape[1])
        memory = self._memory[:rows, :count]
        scores = (query[0] @ memory[0].T)[None] if rows == 1 else query @ memory.mT
        return scores.mul_(self._scale[:rows, None, :count])

    def _by_lists(self, b: int, query: Float[Tensor, "heads width"]) -> Int[Tensor, "heads reads"]:
        words, scores = self._lists[b].near(query)
        blank = torch.from_numpy(self._blanks.first(b)).expand(len(query), -1)
        words = torch.cat([words, blank], 1)
        scores = torch.cat([scores, scores.new_zeros(blank.shape)], 1)
        best = scores.topk(self._reads)
        if bool(best.values.isneginf().any()):  # the lists have too few words
            memory, scale = self._memory[b], self._scale[b]
            return (query @ memory.T * scale).topk(self._reads).indices
        return words.gather(1, best.indices)

    def check(self) -> None:
        """Compare the index with the memory.

        Raises:
            StateError: the content of a word is not in the index.
        """
        self._blanks.check(self._memory)
        expected = _scale(self._memory)
        wrong = ((self._scale - expected).abs() > 1e-4 * expected).nonzero()
        if len(wrong):
            raise lost(*wrong[0].tolist())
        for b, lists in enumerate(self._lists):
            missing = lists.missing(self._blanks.filled(b))
            if missing is not None:
                raise lost(b, missing)


def largest(scores: Float[Tensor, "rows heads words"], count: int) -> Int[Tensor, "rows heads k"]:
    """Return the places of the largest scores, the largest first.

    Of many scores the largest of each block are compared first: the places lie in the blocks with
    the largest of these.
    """
    words = scores.shape[-1]
    blocks = words // _BLOCK
    if blocks < 4 * count:
        return scores.topk(count).indices
    whole = scores[..., : blocks * _BLOCK].unflatten(-1, (blocks, _BLOCK))
    chosen = whole.amax(-1).topk(count).indices
    near = whole.gather(-2, chosen[..., None].expand(*chosen.shape, _BLOCK)).flatten(-2)
    inside = torch.arange(_BLOCK, device=scores.device)
    places = (chosen[..., None] * _BLOCK + inside).flatten(-2)
    rest = torch.arange(blocks * _BLOCK, words, device=scores.device)
    places = torch.cat([places, rest.expand(*places.shape[:-1], -1)], -1)
    best = torch.cat([near, scores[..., blocks * _BLOCK :]], -1).topk(count).indices
    return places.gather(-1, best)


def _scale(content: Float[Tensor, "*words width"]) -> Float[Tensor, "*words"]:
    return (content.square().sum(-1) + FLOOR).rsqrt()
