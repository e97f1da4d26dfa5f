"""Dense access memory: the heads of the sparse access memory, over all words."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

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


@CELLS.register("dam")
@final
class DAMCell(AccessMemoryCell):
    """Dense access memory, DAM: reads of all words, writes to the words just read or least used.

        w^W_t = alpha (gamma w^R_{t-1} + (1 - gamma) I^U)            for each head
        M_t = (1 - R_t) * M_{t-1} + sum over heads of w^W_t a^T       R_t: rows of 1 where I^U = 1
        w^R_t = softmax_j(beta s(q, M_t(j)))     r_t = w^R_t M_t
        U_t = decay U_{t-1} + sum over heads of (w^W_t + w^R_t)
        s(q, m) = q . m / sqrt((q . q + 1e-6) (m . m + 1e-6))

    I^U of head k is 1 at the word of the k-th smallest usage U_{t-1}; of words whose usages are
    equal to half of the digits, the first come first. The controller is that of
    `AccessMemoryCell`. The state has the fields h (the output), c, `memory`, `weights` (w^R) and
    `usage` (U). The memory starts as zeros.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units of the controller, at least 1.
        words: number of words of the memory, at least `heads`.
        width: width of a word, at least 1.
        heads: number of heads, at least 1.
        decay: lambda, the factor of the usage at each step, in [0, 1).
        bias: If True, the linear maps have biases.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, fewer words than heads, or a decay out of range.
        OptionTypeError: a size that is no whole number, or a decay that is no number.

    Example:
        >>> import throughtime as tt
        >>> layer = tt.Recurrent(DAMCell(3, 5, words=16, width=4, heads=2))
        >>> outputs, state = layer(torch.ones(6, 2, 3))
        >>> outputs.shape, state.memory.shape
        (torch.Size([6, 2, 13]), torch.Size([1, 2, 16, 4]))

    Source: J. Rae et al., "Scaling memory-augmented neural networks with sparse reads and writes",
    NIPS 2016.

    Differs from the paper in: unstated there and our choice are the cosine and its 1e-6, the
    strength beta, the decay, a word of its own for each head, the sum of usages over heads, and the
    memory of zeros. The write comes before the read, as in the paper's r_t = w^R_t M_t.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        words: int = 128,
        width: int = 32,
        heads: int = 4,
        decay: float = 0.99,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        check_share("decay", decay)
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
        self.decay = float(decay)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros."""
        sizes = {
            "h": (self.output_size,),
            "c": (self.hidden_size,),
            "memory": (self.memory_words, self.memory_width),
            "weights": (self.read_heads, self.memory_words),
            "usage": (self.memory_words,),
        }
        fields = (torch.zeros(batch_size, *s, dtype=dtype, device=device) for s in sizes.values())
        return state_type(*sizes)(*fields)

    def step(
        self, projected: Float[Tensor, "batch gates"], state: State
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Write, read, and return [h_t; r_t] and the new state."""
        h, c, heads = self.control(projected, state)
        written, unused = self._written(state, heads)
        kept = torch.where(unused.any(-2)[..., None], 0.0, state.memory)
        memory = kept + written.mT @ heads.content
        scores = heads.strength[..., None] * similarity(heads.query, memory)
        weights = scores.softmax(-1)
        output = torch.cat([h, (weights @ memory).flatten(-2)], -1)
        usage = self.decay * state.usage + (written + weights).sum(-2)
        return output, type(state)(output, c, memory, weights, usage)

    def _written(
        self, state: State, heads: Heads
    ) -> tuple[Float[Tensor, "batch heads words"], Float[Tensor, "batch heads words"]]:
        """Return w^W_t and I^U."""
        # words used equally differ by rounding, which depends on the batch: they are one group
        unit = torch.finfo(state.usage.dtype).eps ** 0.5
        ranks = (state.usage.detach() / unit).round()
        least = ranks.argsort(stable=True, dim=-1)[..., : self.read_heads]
        unused = F.one_hot(least, self.memory_words).to(state.weights.dtype)
        return written_weights(heads, state.weights, unused), unused

    def accesses(self, before: State, after: State) -> Accesses:
        """Return w^R_t and w^W_t, a row a head."""
        heads = self.heads_of(after.h[:, : self.hidden_size])
        return Accesses(after.weights, self._written(before, heads)[0])
