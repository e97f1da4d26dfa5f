"""The declaration of a cell with a memory of words: its size, and the accesses of a step."""

import abc
from typing import ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor

from throughtime.core.cell import Cell
from throughtime.core.state import State


class Accesses(NamedTuple):
    """The weights of the words that one step read and wrote.

    Attributes:
        read: weights of the words that were read, one row a read head.
        written: weights of the words that were written, one row a write head.
    """

    read: Float[Tensor, "batch reads words"]
    written: Float[Tensor, "batch writes words"]


class MemoryCell(Cell, abc.ABC):
    """A cell with a memory of words, (batch, words, width), in the field `memory` of its state.

        h_t = [output of the controller; vectors that the read heads read]

    Attributes:
        memory_words: number of words.
        memory_width: width of a word.
        read_heads: number of vectors that a step reads.
        head_parameters: names of the parameters that the heads are computed with.
    """

    head_parameters: ClassVar[tuple[str, ...]] = ("weight_heads", "bias_heads")
    memory_words: int
    memory_width: int
    read_heads: int

    @abc.abstractmethod
    def accesses(self, before: State, after: State) -> Accesses:
        """Return the weights of all words in one step.

        Arguments:
            before: state before the step.
            after: state after the step.
        """
