"""The controller of DAM and SAM: an LSTM, and the parameters of the memory's heads."""

import abc
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from throughtime.core.cell import add_weights, check_size, draw, set_sizes
from throughtime.core.errors import ConfigurationError, OptionTypeError
from throughtime.core.state import State
from throughtime.memory.access import MemoryCell

FLOOR = 1e-6
"""The constant beneath the squared lengths of a cosine: a word of zeros has similarity 0."""


class Heads(NamedTuple):
    """The parameters of the heads at one step.

    Attributes:
        query: q, the vector that words are compared with.
        content: a, the vector that is written.
        strength: beta, at least 1, the factor of the similarities.
        alpha: The strength of the write, in (0, 1).
        gamma: The share of the write that goes to the words just read, in (0, 1).
    """

    query: Float[Tensor, "*steps heads width"]
    content: Float[Tensor, "*steps heads width"]
    strength: Float[Tensor, "*steps heads"]
    alpha: Float[Tensor, "*steps heads"]
    gamma: Float[Tensor, "*steps heads"]


class AccessMemoryCell(MemoryCell, abc.ABC):
    """A cell with an LSTM as controller, whose heads write to a memory and then read from it.

        i, f, g, o = W_ih x_t + b_ih + W_hh [h_{t-1}; r_{t-1}] + b_hh
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(c_t)
        q, a, beta, alpha, gamma = W_heads h_t + b_heads      for each head
        beta = 1 + softplus(beta)   alpha, gamma = sigmoid(alpha), sigmoid(gamma)

    The output is [h_t; r_t], the controller's output and the words read, head by head.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units of the controller, at least 1.
        words: number of words of the memory, at least as many as `heads`.
        width: width of a word, at least 1.
        heads: number of heads, at least 1; each head both writes and reads.
        bias: If True, there are b_ih, b_hh and b_heads.
        device, dtype: place and type of the parameters.

    Attributes:
        weight_ih, weight_hh, bias_ih, bias_hh: the controller's, rows in the order i, f, g, o.
        weight_heads, bias_heads: rows of q, a, beta, alpha and gamma, for each head.

    Raises:
        ConfigurationError: a size below 1, or fewer words than heads.
        OptionTypeError: a size that is no whole number.
    """

    weight_ih: Float[Tensor, "gates input"]
    weight_hh: Float[Tensor, "gates output"]
    bias_ih: Float[Tensor, " gates"] | None
    bias_hh: Float[Tensor, " gates"] | None
    weight_heads: Float[Tensor, "parameters hidden"]
    bias_heads: Float[Tensor, " parameters"] | None

    gate_names = ("input", "forget", "cell", "output")
    remember_gates = ("forget",)
    write_gates = ("input",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        words: int,
        width: int,
        heads: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ):
        super().__init__()
        for name, value in (("words", words), ("width", width), ("heads", heads)):
            check_size(name, value)
        if words < heads:
            raise ConfigurationError(
                "words",
                got=words,
                expected=f"at least {heads}: each head writes to a word of its own",
                fix="Take more words, or fewer heads.",
            )
        self.memory_words, self.memory_width, self.read_heads = words, width, heads
        check_size("hidden_size", hidden_size)
        set_sizes(self, input_size, hidden_size, hidden_size + heads * width)
        add_weights(self, 4, bias=bias, device=device, dtype=dtype)
        rows = heads * (2 * width + 3)
        weight = draw(self, rows, hidden_size, device=device, dtype=dtype)
        self.register_parameter("weight_heads", weight)
        offset = draw(self, rows, device=device, dtype=dtype) if bias else None
        self.register_parameter("bias_heads", offset)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps gates"]:
        """Return W_ih x + b_ih + b_hh."""
        bias = None
        if self.bias_ih is not None and self.bias_hh is not None:
            bias = self.bias_ih + self.bias_hh
        return F.linear(x, self.weight_ih, bias)

    def control(
        self, projected: Float[Tensor, "batch gates"], state: State
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"], Heads]:
        """Return h_t and c_t of the controller, and the parameters of the heads."""
        i, f, g, o = F.linear(state.h, self.weight_hh).add(projected).chunk(4, -1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, c, self.heads_of(h)

    def heads_of(self, h: Float[Tensor, "*steps hidden"]) -> Heads:
        """Return the parameters of the heads, from the output of the controller."""
        return self.as_heads(F.linear(h, self.weight_heads, self.bias_heads))

    def as_heads(self, given: Float[Tensor, "*steps parameters"]) -> Heads:
        """Return the parameters of the heads, from W_heads h + b_heads."""
        width = self.memory_width
        query, content, rest = given.unflatten(-1, (self.read_heads, -1)).split(
            (width, width, 3), -1
        )
        strength, alpha, gamma = rest.unbind(-1)
        return Heads(query, content, 1 + F.softplus(strength), alpha.sigmoid(), gamma.sigmoid())


def similarity(
    query: Float[Tensor, "*batch heads width"], memory: Float[Tensor, "*batch words width"]
) -> Float[Tensor, "*batch heads words"]:
    """Return q . m / sqrt((q . q + 1e-6) (m . m + 1e-6)) of every head and word.

    Example:
        >>> query, words = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 0.0]])
        >>> similarity(query, words)
        tensor([[0., 0.]])
    """
    lengths = (query.square().sum(-1) + FLOOR).rsqrt()[..., None]
    return query @ memory.mT * lengths * (memory.square().sum(-1) + FLOOR).rsqrt()[..., None, :]


def written_weights(
    heads: Heads,
    read: Float[Tensor, "batch heads words"],
    unused: Float[Tensor, "batch heads words"],
) -> Float[Tensor, "batch heads words"]:
    """Return alpha (gamma w^R_{t-1} + (1 - gamma) I^U) of each head."""
    alpha, gamma = heads.alpha[..., None], heads.gamma[..., None]
    return alpha * (gamma * read + (1 - gamma) * unused)


def check_share(name: str, value: object) -> None:
    """Raise ConfigurationError unless the value is a number in [0, 1)."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise OptionTypeError(name, got=repr(value), expected="a number in [0, 1)")
    if not 0 <= value < 1:
        raise ConfigurationError(name, got=repr(value), expected="a number in [0, 1)")
