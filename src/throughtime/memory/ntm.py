"""The neural Turing machine: a controller with heads that read and write a memory of words."""

from typing import Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from throughtime.core.cell import add_weights, check_size, draw, set_sizes
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.registry import CELLS
from throughtime.core.state import State, state_type
from throughtime.memory.access import Accesses, MemoryCell
from throughtime.memory.addressing import by_content, by_location

Controller: TypeAlias = Literal["lstm", "feedforward"]
_GATES: dict[Controller, tuple[str, ...]] = {
    "lstm": ("input", "forget", "cell", "output"),
    "feedforward": ("hidden",),
}
_INITIAL_WORD = 1e-6


@CELLS.register("ntm")
@final
class NTMCell(MemoryCell):
    """The neural Turing machine (Graves, Wayne and Danihelka 2014).

        y_t, c_t = LSTM(x_t, [y_{t-1}; r_{t-1}], c_{t-1})     or y_t = tanh(W x_t + V r_{t-1} + b)
        k, beta, g, s, gamma of each head, e and a of each write head = functions of U y_t + b
        w = sharpened(shifted(g content(M_{t-1}, k, beta) + (1 - g) w_{t-1}, s), gamma)
        r_t = w M_{t-1}                                                  of each read head
        M_t = M_{t-1} * prod over write heads (1 - w e^T) + sum over write heads w a^T
        h_t = [y_t; r_t]

    k and a are tanh, e and g sigmoid, beta softplus, gamma 1 + softplus, s softmax of their rows.
    Those functions are our choice; so are that heads read before the memory is written, and the
    first weights, which are all on word 0. The first memory is 1e-6 throughout (Collier and Beel
    2018), which is not learned.

    The state has the fields h, c (of an LSTM), `weights` (batch, heads, words), the read heads
    first, and `memory` (batch, words, width).

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: width of the controller, at least 1.
        words: number of words, at least 1.
        width: width of a word, at least 1.
        reads: number of read heads, at least 1.
        writes: number of write heads, at least 1.
        shifts: n, largest number of words that a head moves by in a step, at least 0; 2 n + 1 is at
            most `words`.
        controller: "lstm", or "feedforward" for a layer that has no state of its own.
        bias: If True, the controller has b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Attributes:
        weight_ih, weight_hh, bias_ih, bias_hh: weights of the controller, those of an LSTM in the
            order i, f, g, o.
        weight_heads, bias_heads: weights of the heads' parameters (U and b).

    Raises:
        ConfigurationError: a number is too small, or more shifts than words.
        OptionTypeError: a number that is not whole.
        UnknownNameError: an unknown controller.

    Example:
        >>> import throughtime as tt
        >>> layer = tt.Recurrent(NTMCell(3, 5, words=8, width=4, reads=2))
        >>> outputs, state = layer(torch.ones(6, 2, 3))
        >>> outputs.shape, state.memory.shape
        (torch.Size([6, 2, 13]), torch.Size([1, 2, 8, 4]))

    Source:
        Graves, Wayne & Danihelka, "Neural Turing machines", 2014; Collier & Beel, "Implementing
        neural Turing machines", ICANN 2018, for the first memory.
    """

    weight_ih: Float[Tensor, "rows input"]
    weight_hh: Float[Tensor, "rows read"]
    bias_ih: Float[Tensor, " rows"] | None
    bias_hh: Float[Tensor, " rows"] | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        words: int = 128,
        width: int = 20,
        reads: int = 1,
        writes: int = 1,
        shifts: int = 1,
        controller: Controller = "lstm",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        for name, number in (("words", words), ("width", width), ("reads", reads)):
            check_size(name, number)
        check_size("writes", writes)
        check_size("shifts", shifts + 1)
        if 2 * shifts + 1 > words:
            raise ConfigurationError(
                "shifts",
                got=f"{shifts} with {words} words",
                expected="at most (words - 1) / 2",
                fix="Give the memory more words.",
            )
        if controller not in _GATES:
            raise UnknownNameError("controller", str(controller), _GATES)
        set_sizes(self, input_size, hidden_size, hidden_size + reads * width)
        self.memory_words, self.memory_width, self.read_heads = words, width, reads
        self.write_heads, self.shifts = writes, shifts
        self.controller: Controller = controller
        self.gate_names = _GATES[controller]
        read = self.output_size if controller == "lstm" else reads * width
        kind = {"device": device, "dtype": dtype}
        add_weights(self, len(self.gate_names), width=read, bias=bias, **kind)
        heads = reads + writes
        vectors, gates = heads * width + writes * width, heads + writes * width
        self._parts = [vectors, gates, 2 * heads, heads * (2 * shifts + 1)]
        self.weight_heads = draw(self, sum(self._parts), hidden_size, **kind)
        self.bias_heads = draw(self, sum(self._parts), **kind)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros, all weights on word 0, and a memory of 1e-6."""
        kind = {"dtype": dtype, "device": device}
        words, heads = self.memory_words, self.read_heads + self.write_heads
        fields = {"h": torch.zeros(batch_size, self.output_size, **kind)}
        if self.controller == "lstm":
            fields["c"] = torch.zeros(batch_size, self.hidden_size, **kind)
        weights = torch.zeros(batch_size, heads, words, **kind)
        weights[..., 0] = 1
        fields["weights"] = weights
        shape = (batch_size, words, self.memory_width)
        fields["memory"] = torch.full(shape, _INITIAL_WORD, **kind)
        return state_type(*fields)(**fields)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps rows"]:
        """Return W x, with both biases."""
        bias = None
        if self.bias_ih is not None and self.bias_hh is not None:
            bias = self.bias_ih + self.bias_hh
        return F.linear(x, self.weight_ih, bias)

    def step(
        self, projected: Float[Tensor, "batch rows"], state: State
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Run the controller, then address, read and write."""
        after: dict[str, Tensor] = {}
        if self.controller == "lstm":
            sums = torch.addmm(projected, state.h, self.weight_hh.t())
            i, f, _, o = sums.sigmoid().chunk(4, -1)
            g = sums[:, 2 * self.hidden_size : 3 * self.hidden_size].tanh()
            after["c"] = torch.addcmul(f * state.c, i, g)
            y = o * after["c"].tanh()
        else:
            vectors = state.h[:, self.hidden_size :]
            y = torch.addmm(projected, vectors, self.weight_hh.t()).tanh()
        reads, writes, width = self.read_heads, self.write_heads, self.memory_width
        heads = reads + writes
        parts = F.linear(y, self.weight_heads, self.bias_heads).split(self._parts, -1)
        vectors = parts[0].tanh().unflatten(-1, (heads + writes, width))
        keys, added = vectors.split([heads, writes], 1)
        gates, erased = parts[1].sigmoid().split([heads, writes * width], -1)
        strengths, sharpness = F.softplus(parts[2]).unsqueeze(-1).chunk(2, 1)
        moves = parts[3].unflatten(-1, (heads, -1)).softmax(-1)

        content = by_content(state.memory, keys, strengths)
        mixed = torch.lerp(state.weights, content, gates.unsqueeze(-1))
        weights = by_location(mixed, moves, sharpness + 1)
        reading, writing = weights.split([reads, writes], 1)
        h = torch.cat([y, (reading @ state.memory).flatten(1)], -1)
        memory = state.memory
        erased = erased.unflatten(-1, (writes, 1, width))
        for head in range(writes):
            gone = writing[:, head].unsqueeze(-1) @ erased[:, head]
            memory = torch.addcmul(memory, memory, gone, value=-1)
        memory = torch.baddbmm(memory, writing.mT, added)
        return h, state._replace(h=h, **after, weights=weights, memory=memory)

    def accesses(self, before: State, after: State) -> Accesses:
        """Return the weights of the read heads and of the write heads.

        Arguments:
            before: state before the step; unused.
            after: state after the step.
        """
        del before
        return Accesses(*after.weights.split([self.read_heads, self.write_heads], 1))
