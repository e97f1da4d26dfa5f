"""Sparse access memory: the step of the cell, as a pure function. It is the reference."""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.cell import check_flag, check_size
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.registry import CELLS
from throughtime.core.state import State, state_type
from throughtime.memory.access import Accesses
from throughtime.memory.controller import (
    AccessMemoryCell,
    Heads,
    check_share,
    similarity,
    written_weights,
)
from throughtime.memory.nearest import IndexName
from throughtime.memory.sparse_run import run_in_place


@CELLS.register("sam")
@final
class SAMCell(AccessMemoryCell):
    """Sparse access memory, SAM: a few reads and writes a step, in a memory of any size.

        w^W_t = alpha (gamma w^R_{t-1} + (1 - gamma) I^U)            for each head
        M_t = (1 - R_t) * M_{t-1} + sum over heads of w^W_t a^T       R_t: rows of 1 where I^U = 1
        w^R_t = softmax over the K words with the largest s(q, M_t(j)) of beta s(q, M_t(j))
        r_t = w^R_t M_t        w^R is 0 on all other words
        s(q, m) = q . m / sqrt((q . q + 1e-6) (m . m + 1e-6))

    I^U of head k is 1 at the k-th least recently accessed word. A word is accessed at step t if
    its sum of w^W_t + w^R_t over the heads is above `threshold`. The choices of words have no
    gradient. The controller is that of `AccessMemoryCell`.

    The state has the fields h (the output), c, `memory`, `places` (the words read) and `weights`
    (w^R on them), both (batch, heads, reads), and `accessed` (batch, words), the order of the last
    access, -1 before the first. The memory starts as zeros. Of the words of zeros those with the
    lowest numbers are read first; of the words with one order of access those with the lowest
    numbers are written first.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units of the controller, at least 1.
        words: number of words of the memory, at least `heads` and `reads`.
        width: width of a word, at least 1.
        heads: number of heads, at least 1.
        reads: K, the number of words that a head reads at a step, at least 1.
        threshold: delta, the weight above which a word counts as accessed, in [0, 1).
        index: search for the nearest words in a run: "exact"; "inverted", by lists of words that
            point the same way, which finds nearly all; or "auto", the exact one up to 16,384 words
            that are not zero, and on other devices than the CPU. `step` is always exact.
        longest: largest number of steps of a run, or None; it bounds what a run stores.
        check: If True, each step of a run compares the index with the memory, and the backward pass
            compares the memory with that before the run, which takes time for all words.
        bias: If True, the linear maps have biases.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, fewer words than heads or reads, or a threshold out of
            range.
        OptionTypeError: a size that is no whole number, or a threshold that is no number.
        UnknownNameError: an unknown index.

    Example:
        >>> import throughtime as tt
        >>> layer = tt.Recurrent(SAMCell(3, 5, words=16, width=4, heads=2, reads=3))
        >>> outputs, state = layer(torch.ones(6, 2, 3))
        >>> outputs.shape, state.places.shape
        (torch.Size([6, 2, 13]), torch.Size([1, 2, 2, 3]))

    Source: J. Rae et al., "Scaling memory-augmented neural networks with sparse reads and writes",
    NIPS 2016.

    Differs from the paper in: unstated there and our choice are the cosine and its 1e-6, the
    softmax over the K words, the strength beta, a word of its own for each head, the sum of weights
    over heads, the order of words with equal access, and the memory of zeros.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        words: int = 128,
        width: int = 32,
        heads: int = 4,
        reads: int = 4,
        threshold: float = 0.005,
        index: IndexName = "auto",
        longest: int | None = None,
        check: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        check_share("threshold", threshold)
        check_size("reads", reads)
        check_flag("check", check)
        if longest is not None:
            check_size("longest", longest)
        if index not in ("auto", "exact", "inverted"):
            raise UnknownNameError("index", str(index), ("auto", "exact", "inverted"))
        super().__init__(
            input_size,
            hidden_size,
            words=words,
            width=width,
            heads=heads,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        if words < reads:
            raise ConfigurationError(
                "words",
                got=words,
                expected=f"at least {reads}: each head reads so many words",
                fix="Take more words, or fewer reads.",
            )
        self.reads, self.threshold = reads, float(threshold)
        self.index: IndexName = index
        self.longest, self.check = longest, check

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return a memory of zeros, of which no word was read or accessed."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch_size, *shape, dtype=dtype, device=device)

        first = torch.arange(self.reads, device=device)
        fields = {
            "h": zeros(self.output_size),
            "c": zeros(self.hidden_size),
            "memory": zeros(self.memory_words, self.memory_width),
            "places": first.expand(batch_size, self.read_heads, -1).clone(),
            "weights": zeros(self.read_heads, self.reads),
            "accessed": torch.full((batch_size, self.memory_words), -1, device=device),
        }
        return state_type(*fields)(**fields)

    def step(
        self, projected: Float[Tensor, "batch gates"], state: State
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Write, read, and return [h_t; r_t] and the new state; it takes time for all words."""
        h, c, heads = self.control(projected, state)
        written, unused = self._written(state, heads)
        kept = torch.where(unused.any(-2)[..., None], 0.0, state.memory)
        memory = kept + written.mT @ heads.content
        scores = similarity(heads.query, memory)
        places = self._nearest(scores.detach(), memory.detach())
        weights = (heads.strength[..., None] * scores.gather(-1, places)).softmax(-1)
        after = self._whole(places, weights)
        output = torch.cat([h, (after @ memory).flatten(-2)], -1)
        total = (written + after).sum(-2)
        now = state.accessed.amax(-1, keepdim=True) + 1
        accessed = torch.where(total > self.threshold, now, state.accessed)
        return output, type(state)(output, c, memory, places, weights, accessed)

    def as_state(self, fields: Sequence[Tensor]) -> State:
        """Return a state of these fields, in their order."""
        names = ("h", "c", "memory", "places", "weights", "accessed")
        return state_type(*names)(*fields)

    def run_sequence(
        self, projected: Float[Tensor, "steps gates"], state: State, counts: Sequence[int]
    ) -> tuple[Float[Tensor, "steps output"], State]:
        """Return outputs and the last states of a run, in time that the words hardly change.

        Arguments:
            projected: projections of all steps, side by side.
            state: state before the first step.
            counts: number of sequences of each step, never more than of the step before.
        """
        return run_in_place(self, projected, state, counts)

    def _written(
        self, state: State, heads: Heads
    ) -> tuple[Float[Tensor, "batch heads words"], Float[Tensor, "batch heads words"]]:
        """Return w^W_t and I^U, over all words."""
        before = self._whole(state.places, state.weights)
        unused = F.one_hot(self._least_accessed(state.accessed), self.memory_words)
        unused = unused.to(before.dtype)
        return written_weights(heads, before, unused), unused

    def accesses(self, before: State, after: State) -> Accesses:
        """Return w^R_t and w^W_t over all words, a row a head."""
        heads = self.heads_of(after.h[:, : self.hidden_size])
        read = self._whole(after.places, after.weights)
        return Accesses(read, self._written(before, heads)[0])

    def _least_accessed(self, accessed: Int[Tensor, "batch words"]) -> Int[Tensor, "batch heads"]:
        """Return the least recently accessed words, the oldest first."""
        order = accessed * self.memory_words + torch.arange(
            self.memory_words, device=accessed.device
        )
        return order.topk(self.read_heads, largest=False).indices

    def _whole(
        self,
        places: Int[Tensor, "batch heads reads"],
        weights: Float[Tensor, "batch heads reads"],
    ) -> Float[Tensor, "batch heads words"]:
        """Return weights over all words."""
        zeros = weights.new_zeros(*weights.shape[:-1], self.memory_words)
        return zeros.scatter_add(-1, places, weights)

    def _nearest(
        self, scores: Float[Tensor, "batch heads words"], memory: Float[Tensor, "batch words width"]
    ) -> Int[Tensor, "batch heads reads"]:
        """Return the K words with the largest scores; those of zeros in the order of words."""
        places = scores.topk(self.reads).indices
        blank = (memory == 0).all(-1)
        number = torch.arange(self.memory_words, device=memory.device)
        first = torch.where(blank, number, self.memory_words).topk(self.reads, largest=False).values
        chosen = blank[..., None, :].expand(scores.shape).gather(-1, places)
        rank = (chosen.long().cumsum(-1) - 1).clamp(min=0)
        wanted = first[..., None, :].expand(places.shape).gather(-1, rank)
        return torch.where(chosen, wanted, places)
