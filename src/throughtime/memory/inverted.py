"""Inverted lists: words that point the same way stand in one list, which a write updates."""

from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_SIZE = 128  # words of a list when it is built, at most
_CAPACITY = 192  # places of a list
_PROBES = 32  # lists that a query reads, or a 256th of all
_PARTS = 64  # parts that a set of words is divided into at once, at most
_SAMPLE = 128  # words from which the centre of a part is found, about
_TRIED = 4  # lists that a new word may go to, the nearest first


@final
class InvertedLists:
    """The words of one memory that are not zero, in lists of limited length, each with a centre.

    A query reads the lists with the nearest centres. The words are divided by k-means of their
    directions, and each part again, until no list is longer than 128. A changed word goes to the
    list with the nearest centre that has a place, unless it is still as near to its own as the
    words that were there first. All lists are built again after as many new entries as there were
    words, or where no near list has a place.

    Arguments:
        memory: the memory, which the caller changes in place.
        scale: 1 / length of each word, changed in place likewise.
        filled: numbers of the words that are not zero.
    """

    def __init__(
        self,
        memory: Float[Tensor, "words width"],
        scale: Float[Tensor, " words"],
        filled: Int[np.ndarray, " filled"],
    ):
        self._memory, self._scale = memory, scale
        self._slots = np.full(len(memory), -1)
        self._build(filled)

    def _build(self, filled: np.ndarray) -> None:
        words = torch.from_numpy(filled)
        leaves = _divided(self._memory[words] * self._scale[words, None])
        self._words = torch.full((len(leaves), _CAPACITY), -1)
        for own, leaf in zip(self._words, leaves, strict=True):
            own[: len(leaf)] = words[leaf]
        there = self._words >= 0
        members = self._memory[self._words.clamp(min=0)[:, :_SIZE]]
        members = members * self._scale[self._words.clamp(min=0)[:, :_SIZE], None]
        members = members * there[:, :_SIZE, None]
        self._centres = torch.nn.functional.normalize(members.sum(1), dim=-1)
        cosines = (members @ self._centres[..., None])[..., 0]
        self._loosest = cosines.masked_fill(~there[:, :_SIZE], 1).amin(-1).numpy()
        self._lists, self._counts = self._words.numpy(), there.sum(-1).numpy()
        self._slots.fill(-1)
        taken = np.flatnonzero(self._lists.reshape(-1) >= 0)
        self._slots[self._lists.reshape(-1)[taken]] = taken
        self._left = max(len(filled), _SIZE)

    def near(
        self, query: Float[Tensor, "heads width"]
    ) -> tuple[Int[Tensor, "heads near"], Float[Tensor, "heads near"]]:
        """Return the words of the lists nearest to each query, and their scores.

        A free place has the number -1 and the score -inf.
        """
        probes = min(max(_PROBES, len(self._centres) // 256), len(self._centres))
        lists = (query @ self._centres.T).topk(probes).indices
        words = self._words[lists].flatten(1)
        there = words >= 0
        near = words[there]
        rows = self._memory.index_select(0, near)
        own = query.repeat_interleave(there.sum(1), 0)
        scores = query.new_full(words.shape, -torch.inf)
        scores[there] = (rows * own).sum(-1) * self._scale[near]
        return words, scores

    def update(
        self, places: Int[Tensor, " places"], content: Float[Tensor, "places width"]
    ) -> None:
        """Enter the new content of some words; a word may stand there twice."""
        numbers = places.numpy()
        slots = self._slots[numbers]
        filled = (content != 0).any(-1).numpy()
        rows = content * self._scale[places, None]
        own = np.maximum(slots, 0) // _CAPACITY
        cosines = (rows * self._centres[torch.from_numpy(own)]).sum(-1).numpy()
        stays = filled & (slots >= 0) & (cosines >= self._loosest[own])
        moved = [i for i in np.flatnonzero(~stays).tolist() if filled[i] or slots[i] >= 0]
        if not moved:
            return
        entering = [i for i in moved if filled[i]]
        near = np.empty((0, 0), np.int64)
        if entering:
            scores = rows[entering] @ self._centres.T
            near = scores.topk(min(_TRIED, len(self._centres))).indices.numpy()
        for i in moved:
            self._remove(int(numbers[i]))
        for i, lists in zip(entering, near.tolist(), strict=True):
            if not self._enter(int(numbers[i]), lists):
                self._build(np.flatnonzero((self._memory != 0).any(-1).numpy()))
                return

    def _remove(self, word: int) -> None:
        slot = int(self._slots[word])
        if slot < 0:
            return
        k, place = divmod(slot, _CAPACITY)
        self._counts[k] -= 1
        last = int(self._lists[k, self._counts[k]])
        self._lists[k, place] = last
        self._slots[last] = slot
        self._lists[k, self._counts[k]] = -1
        self._slots[word] = -1

    def _enter(self, word: int, lists: list[int]) -> bool:
        """Return True if one of the lists has a place, or the word has one."""
        if self._slots[word] >= 0:  # the second entry of one word
            return True
        self._left -= 1
        for k in lists:
            if self._left > 0 and self._counts[k] < _CAPACITY:
                place = int(self._counts[k])
                self._lists[k, place], self._slots[word] = word, k * _CAPACITY + place
                self._counts[k] += 1
                return True
        return False

    def missing(self, filled: Int[np.ndarray, " filled"]) -> int | None:
        """Return a word that is not in its list, or a word of zeros that is in one."""
        slots = self._slots[filled]
        wrong = (slots < 0) | (self._lists.reshape(-1)[slots] != filled)
        if wrong.any():
            return int(filled[wrong][0])
        extra = np.setdiff1d(np.flatnonzero(self._slots >= 0), filled)
        return int(extra[0]) if len(extra) else None


def _divided(rows: Float[Tensor, "rows width"]) -> list[Int[Tensor, " part"]]:
    """Return the places of rows that point the same way, in parts of limited size.

    Arguments:
        rows: vectors of length 1.
    """
    parts: list[Tensor] = []
    waiting = [torch.arange(len(rows))]
    while waiting:
        places = waiting.pop()
        if len(places) <= _SIZE:
            parts.append(places)
            continue
        count = min(_PARTS, max(2, 3 * len(places) // (2 * _SIZE)))
        nearest = _clusters(rows[places], count)
        sizes = torch.bincount(nearest, minlength=count).tolist()
        found = places[nearest.argsort(stable=True)].split(sizes)
        # equal rows are one cluster, which is cut anywhere
        waiting += (
            [part for part in found if len(part)]
            if max(sizes) < len(places)
            else (places.split(_SIZE))
        )
    return parts


def _clusters(rows: Float[Tensor, "rows width"], count: int) -> Int[Tensor, " rows"]:
    """Return the number of the cluster of each row, by k-means of directions on a part of them."""
    some = rows[:: max(1, len(rows) // (_SAMPLE * count))]
    centres = some[:: len(some) // count][:count]
    for _ in range(4):
        nearest = (some @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, some)
        centres = torch.nn.functional.normalize(sums, dim=-1)
    return (rows @ centres.T).argmax(1)
