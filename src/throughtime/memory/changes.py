"""The few words that each step of a run changes, stored so that no bit of the memory is lost."""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor


@final
class Changes:
    """The changed words of every step, and their content on the other side of the step.

    Before the steps are undone, the content stored is the older one; after, it is the newer one.

    Arguments:
        memory: the memory, which `exchange` changes in place.
        counts: number of sequences of each step.
        changed: number of changed words of a step and sequence; a word may stand there twice.

    Attributes:
        places: numbers of the words, counted over all sequences of the batch.

    Example:
        >>> memory = torch.zeros(1, 4, 1)
        >>> changes = Changes(memory, [1], 1)
        >>> changes.keep(0, torch.tensor([[2]]))
        >>> memory[0, 2] = 0.1
        >>> changes.exchange(0)
        >>> memory.flatten().tolist()
        [0.0, 0.0, 0.0, 0.0]
        >>> changes.exchange(0)
        >>> round(float(memory[0, 2]), 6)
        0.1
    """

    places: Int[Tensor, "steps changed"]

    def __init__(
        self, memory: Float[Tensor, "batch words width"], counts: Sequence[int], changed: int
    ):
        self._flat = memory.flatten(0, 1)
        self._starts = [0]
        for count in counts:
            self._starts.append(self._starts[-1] + count)
        rows = self._starts[-1]
        self.places = torch.empty(rows, changed, dtype=torch.int64, device=memory.device)
        self._content = memory.new_empty(rows, changed, memory.shape[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored."""
        return self.places.nbytes + self._content.nbytes

    def keep(self, t: int, places: Int[Tensor, "rows changed"]) -> None:
        """Store the words that step t is about to change."""
        at = slice(self._starts[t], self._starts[t + 1])
        self.places[at] = places
        self._content[at] = self._flat[places]

    def exchange(self, t: int) -> None:
        """Undo step t, or do it again: the stored content and that of the memory change places."""
        at = slice(self._starts[t], self._starts[t + 1])
        places = self.places[at]
        now = self._flat[places]
        self._flat[places] = self._content[at]
        self._content[at] = now
