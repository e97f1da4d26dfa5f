"""The words of a memory that hold zeros, which all have the similarity 0."""

from typing import final

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.errors import StateError


@final
class Blanks:
    """The words of zeros of every sequence, of which those with the lowest numbers come first.

    Arguments:
        memory: memory before the first update.
        reads: number of words that a query finds.

    Attributes:
        top: number of words up to the last that was ever other than zeros, in any sequence.

    Example:
        >>> import torch
        >>> memory = torch.zeros(1, 4, 1)
        >>> blanks = Blanks(memory, reads=2)
        >>> blanks.update(torch.tensor([[1]]), torch.ones(1, 1, 1))
        >>> blanks.first(0).tolist(), blanks.top
        ([0, 2], 2)
    """

    top: int

    def __init__(self, memory: Float[Tensor, "batch words width"], reads: int):
        self._reads = reads
        self._blank = (memory == 0).all(-1).cpu().numpy()
        filled = np.flatnonzero(~self._blank.all(0))
        self.top = int(filled[-1]) + 1 if len(filled) else 0
        self._low = [0] * len(memory)

    def update(
        self, places: Int[Tensor, "rows places"], content: Float[Tensor, "rows places width"]
    ) -> None:
        """Enter the new content of some words of the first sequences."""
        empty_words = (content == 0).all(-1).cpu().numpy()
        for b, (own, empty) in enumerate(zip(places.cpu().numpy(), empty_words, strict=True)):
            self._blank[b][own] = empty
            self.top = max(self.top, int(own.max()) + 1)
            if empty.any():
                self._low[b] = min(self._low[b], int(own[empty].min()))

    def filled(self, b: int) -> np.ndarray:
        """Return the words of a sequence that are not zeros."""
        return np.flatnonzero(~self._blank[b])

    def first(self, b: int) -> np.ndarray:
        """Return the first words of zeros of a sequence, as many as a query finds at most."""
        blank, low = self._blank[b], self._low[b]
        size = 64
        found = np.flatnonzero(blank[low : low + size])
        while len(found) < self._reads and low + size < len(blank):
            size *= 4
            found = np.flatnonzero(blank[low : low + size])
        self._low[b] = low + (int(found[0]) if len(found) else size)
        return low + found[: self._reads]

    def in_order(self, places: np.ndarray) -> np.ndarray:
        """Put the first words of zeros in the place of any others.

        Arguments:
            places: (rows, heads, reads), changed in place.
        """
        for b, own in enumerate(places):
            empty = self._blank[b][own]
            if empty.any():
                own[empty] = self.first(b)[empty.cumsum(-1)[empty] - 1]
        return places

    def check(self, memory: Float[Tensor, "batch words width"]) -> None:
        """Raise StateError unless the words of zeros are those of the memory."""
        wrong = np.argwhere((memory == 0).all(-1).cpu().numpy() != self._blank)
        if len(wrong):
            raise lost(*wrong[0].tolist())


def lost(b: int, word: int) -> StateError:
    """Return the error of an index that does not have the content of a word."""
    return StateError(
        "index of a memory",
        got=f"no entry of the content of word {word} of sequence {b}",
        expected="an entry of each word",
        fix="The memory was changed without the index; index='exact' needs no entries.",
    )
