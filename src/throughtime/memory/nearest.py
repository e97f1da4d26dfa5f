"""The words nearest to a query by cosine, from an index that each write updates in place."""

from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.memory.controller import FLOOR

_BLOCK = 64  # scores of which only the largest is compared at first


@final
class ExactIndex:
    """The exact index: the scores of all words, of every sequence of a run.

        s_j = q . m_j / sqrt(m_j . m_j + 1e-6)         the length of q changes no order

    Words of zeros have the score 0; of them those with the lowest numbers are found. Words behind
    the last one that is not zero are left out, but for as many as are found.

    Arguments:
        memory: (batch, words, width), which the caller changes in place.
        reads: number of words that a query finds, at most `words`.

    Example:
        >>> memory = torch.zeros(1, 9, 2)
        >>> index = ExactIndex(memory, reads=2)
        >>> memory[0, 5] = torch.tensor([3.0, 4.0])
        >>> index.update(torch.tensor([[5]]), memory[:, 5:6])
        >>> index.search(torch.tensor([[[1.0, 1.0], [-1.0, 0.0]]])).tolist()
        [[[5, 0], [0, 1]]]
    """

    def __init__(self, memory: Float[Tensor, "batch words width"], reads: int):
        self._memory, self._reads = memory, reads
        self._scale = _scale(memory)
        self._blank = (memory == 0).all(-1).cpu().numpy()
        filled = np.flatnonzero(~self._blank.all(0))
        self._top = int(filled[-1]) + 1 if len(filled) else 0
        self._low = [0] * len(memory)

    def update(
        self, places: Int[Tensor, "rows places"], content: Float[Tensor, "rows places width"]
    ) -> None:
        """Enter the new content of some words.

        Arguments:
            places: numbers of words, of the first sequences of the batch.
            content: content of these words.
        """
        self._scale[: len(places)].scatter_(1, places, _scale(content))
        blank = (content == 0).all(-1).cpu().numpy()
        for b, (own, empty) in enumerate(zip(places.cpu().numpy(), blank, strict=True)):
            self._blank[b][own] = empty
            self._top = max(self._top, int(own.max()) + 1)
            if empty.any():
                self._low[b] = min(self._low[b], int(own[empty].min()))

    def search(self, query: Float[Tensor, "rows heads width"]) -> Int[Tensor, "rows heads reads"]:
        """Return the words with the largest scores.

        Arguments:
            query: queries, of the first sequences of the batch.
        """
        rows, words = len(query), self._memory.shape[1]
        count = min(self._top + self._reads, words)
        if rows == 1:
            scores = (query[0] @ self._memory[0, :count].T)[None]
        else:
            scores = query @ self._memory[:rows, :count].mT
        scores *= self._scale[:rows, None, :count]
        best = largest(scores, self._reads)
        places = best.cpu().numpy()
        for b in range(rows):
            empty = self._blank[b][places[b]]
            if empty.any():
                first = self._blanks(b)
                rank = empty.cumsum(-1)[empty] - 1
                places[b][empty] = first[rank]
        return torch.from_numpy(places).to(query.device)

    def _blanks(self, b: int) -> np.ndarray:
        """Return the first words of zeros of a sequence, as many as are found."""
        blank, low = self._blank[b], self._low[b]
        size = 64
        found = np.flatnonzero(blank[low : low + size])
        while len(found) < self._reads and low + size < len(blank):
            size *= 4
            found = np.flatnonzero(blank[low : low + size])
        if len(found):
            self._low[b] = low + int(found[0])
        return low + found[: self._reads]


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
