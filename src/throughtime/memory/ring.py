"""The order in which the words of a memory were accessed, kept in O(1) an access."""

from collections.abc import Iterable
from typing import final

import numpy as np


@final
class Ring:
    """A circular list of all words, the least recently accessed first.

    Each word has a link to the next older and to the next newer word, and one link more, at the
    number `words`, closes the circle. An access takes a word out and puts it back at the end.

    Arguments:
        accessed: (words,) int64, the order of the last access of each word; `access` changes it in
            place. Words with one order stand by their numbers.

    Example:
        >>> accessed = np.array([-1, 2, -1, 0])
        >>> ring = Ring(accessed)
        >>> ring.oldest(4)
        [0, 2, 3, 1]
        >>> ring.access([0, 3])
        >>> ring.oldest(4), accessed.tolist()
        ([2, 1, 0, 3], [3, 2, -1, 3])
    """

    def __init__(self, accessed: np.ndarray):
        words = len(accessed)
        circle = np.empty(words + 2, np.int64)
        circle[1:-1] = np.argsort(accessed, kind="stable")
        circle[0] = circle[-1] = words
        newer, older = np.empty(words + 1, np.int64), np.empty(words + 1, np.int64)
        newer[circle[:-1]] = circle[1:]
        older[circle[1:]] = circle[:-1]
        # items of a memoryview are Python's numbers, which are faster than numpy's
        self._newer, self._older = newer.data, older.data
        self._accessed = accessed.data
        self._now, self._words = int(accessed.max()) + 1, words

    def oldest(self, count: int) -> list[int]:
        """Return the least recently accessed words, the oldest first."""
        found, word = [], self._words
        for _ in range(count):
            word = self._newer[word]
            found.append(word)
        return found

    def access(self, words: Iterable[int]) -> None:
        """Make some words the most recently accessed ones, in one step.

        Arguments:
            words: numbers of words, each once, increasing.
        """
        newer, older, accessed, end, now = (
            self._newer,
            self._older,
            self._accessed,
            self._words,
            self._now,
        )
        for word in words:
            before, after = older[word], newer[word]
            newer[before], older[after] = after, before
            last = older[end]
            newer[last], older[word] = word, last
            newer[word], older[end] = end, word
            accessed[word] = now
            self._now = now + 1
