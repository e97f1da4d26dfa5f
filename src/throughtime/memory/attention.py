"""Attention: weights over the positions of a memory, and a cell that reads their mean."""

import abc
import math
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.cell import Cell, Streams, advance, check_flag, check_size
from throughtime.core.errors import ConfigurationError, LengthsError, OptionTypeError, ShapeError
from throughtime.core.state import State, state_type


class Memory(NamedTuple):
    """The positions that queries attend to.

    Attributes:
        values: m_j, the vectors that are averaged; 0 on padding.
        keys: vectors that queries are compared with, computed once.
        mask: 0 where there is a position, -inf on padding; it is added to the scores.
    """

    values: Float[Tensor, "batch source memory"]
    keys: Float[Tensor, "batch source key"]
    mask: Float[Tensor, "batch source"]


class Attention(nn.Module, abc.ABC):
    """Weights over the positions of a memory, from a score of each.

        alpha_j = softmax_j(e_j)        c = sum over j of alpha_j m_j

    A weight on padding is exactly 0.

    Attributes:
        query_size: width of a query.
        memory_size: width of m_j.
        key_size: width of a key.
        coverage: If True, the scores depend on the sum of earlier weights.
    """

    query_size: int
    memory_size: int
    key_size: int
    coverage: bool = False

    @abc.abstractmethod
    def keys(
        self, values: Float[Tensor, "batch source memory"]
    ) -> Float[Tensor, "batch source key"]:
        """Return the part of the scores that does not depend on the query."""

    @abc.abstractmethod
    def scores(
        self,
        query: Float[Tensor, "*steps batch query"],
        keys: Float[Tensor, "batch source key"],
        coverage: Float[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "*steps batch source"]:
        """Return e_j.

        Arguments:
            query: one query a sequence, or one a step and sequence.
            keys: result of `keys`.
            coverage: sum of earlier weights, where `coverage` is True.
        """

    @final
    def memory(
        self,
        values: Float[Tensor, "batch source memory"],
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> Memory:
        """Return the memory of some vectors, with its keys and mask.

        Arguments:
            values: m_j; what lies on padding is not read, and becomes 0.
            lengths: positions of each sequence, at least 1; None where all are filled.

        Raises:
            ShapeError: other axes or another width.
            LengthsError: a sequence without a position, or with more than there are.
        """
        if values.dim() != 3 or values.shape[-1] != self.memory_size:
            raise ShapeError(
                "memory",
                got=f"shape {tuple(values.shape)}",
                expected=f"(batch, source, {self.memory_size})",
            )
        batch, source = values.shape[:2]
        if lengths is None:
            return Memory(values, self.keys(values), values.new_zeros(batch, source))
        lengths = lengths.to(values.device)
        if lengths.shape != (batch,) or bool(((lengths < 1) | (lengths > source)).any()):
            raise LengthsError(
                "lengths of a memory",
                got=str(lengths.tolist()),
                expected=f"{batch} whole numbers from 1 to {source}",
                fix="Leave empty sequences out of the batch.",
            )
        filled = torch.arange(source, device=values.device) < lengths[:, None]
        values = torch.where(filled[..., None], values, 0)
        mask = values.new_zeros(batch, source).masked_fill(~filled, -math.inf)
        return Memory(values, self.keys(values), mask)

    @final
    def forward(
        self,
        query: Float[Tensor, "*steps batch query"],
        memory: Memory,
        coverage: Float[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "*steps batch memory"], Float[Tensor, "*steps batch source"]]:
        """Return the context c and the weights alpha.

        Arguments:
            query: one query a sequence, or one a step and sequence.
            memory: result of `memory`.
            coverage: sum of earlier weights, where `coverage` is True.
        """
        scores = self.scores(query, memory.keys, coverage) + memory.mask
        weights = scores.softmax(-1)
        return torch.einsum("...bs,bsm->...bm", weights, memory.values), weights


@final
class AdditiveAttention(Attention):
    """Bahdanau's attention: a tanh layer compares a query with each position.

        e_j = v . tanh(W q + U m_j + w_c kappa_j)        kappa: the sum of earlier weights

    Parameters are `query` (W), `key` (U and a bias), `vector` (v) and, with coverage,
    `covered` (w_c).

    Arguments:
        query_size: width of a query.
        memory_size: width of m_j.
        size: width of the layer.
        coverage: If True, w_c kappa_j is added (See et al. 2017), so that a position that was read
            before may be left out. That paper's loss of coverage is not added.

    Raises:
        ConfigurationError: a size below 1.

    Example:
        >>> attention = AdditiveAttention(4, 6, 5)
        >>> memory = attention.memory(torch.ones(2, 3, 6), torch.tensor([3, 1]))
        >>> context, weights = attention(torch.ones(2, 4), memory)
        >>> context.shape, weights[1].tolist()
        (torch.Size([2, 6]), [1.0, 0.0, 0.0])

    Source:
        Bahdanau, Cho & Bengio, "Neural machine translation by jointly learning to align and
        translate", ICLR 2015; See, Liu & Manning, "Get to the point", ACL 2017, for coverage.
    """

    covered: nn.Parameter | None

    def __init__(self, query_size: int, memory_size: int, size: int, *, coverage: bool = False):
        super().__init__()
        _set_sizes(self, query_size, memory_size, size)
        check_flag("coverage", coverage)
        self.coverage = coverage
        self.query = nn.Linear(query_size, size, bias=False)
        self.key = nn.Linear(memory_size, size)
        bound = 1 / math.sqrt(size)
        self.vector = nn.Parameter(torch.empty(size).uniform_(-bound, bound))
        covered = nn.Parameter(torch.empty(size).uniform_(-bound, bound)) if coverage else None
        self.register_parameter("covered", covered)

    def keys(
        self, values: Float[Tensor, "batch source memory"]
    ) -> Float[Tensor, "batch source key"]:
        """Return U m_j + b."""
        return self.key(values)

    def scores(
        self,
        query: Float[Tensor, "*steps batch query"],
        keys: Float[Tensor, "batch source key"],
        coverage: Float[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "*steps batch source"]:
        """Return v . tanh(W q + key + w_c kappa)."""
        compared = self.query(query)[..., None, :] + keys
        if self.covered is not None and coverage is not None:
            compared = compared + coverage[..., None] * self.covered
        return compared.tanh() @ self.vector


@final
class DotAttention(Attention):
    """A dot product of query and position, after a projection where their widths differ.

        e_j = s q . m_j, or s q . (P m_j)        s = 1 / sqrt(query_size), or 1

    Arguments:
        query_size: width of a query.
        memory_size: width of m_j.
        scaled: If True, s = 1 / sqrt(query_size) (Vaswani et al. 2017).
        projected: If True, there is P, which Luong et al. call "general"; if None, there is one
            where the widths differ.

    Raises:
        ConfigurationError: a size below 1, or widths that differ without a projection.

    Example:
        >>> attention = DotAttention(4, 6)
        >>> context, weights = attention(torch.ones(7, 2, 4), attention.memory(torch.ones(2, 3, 6)))
        >>> context.shape, weights.shape
        (torch.Size([7, 2, 6]), torch.Size([7, 2, 3]))

    Source:
        Luong, Pham & Manning, "Effective approaches to attention-based neural machine translation",
        EMNLP 2015.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        *,
        scaled: bool = True,
        projected: bool | None = None,
    ):
        super().__init__()
        _set_sizes(self, query_size, memory_size, query_size)
        check_flag("scaled", scaled)
        projected = query_size != memory_size if projected is None else projected
        check_flag("projected", projected)
        if query_size != memory_size and not projected:
            raise ConfigurationError(
                "DotAttention",
                got=f"queries of {query_size} and a memory of {memory_size}",
                expected="equal widths without a projection",
                fix="Leave `projected` out.",
            )
        self.scale = 1 / math.sqrt(query_size) if scaled else 1.0
        self.key = nn.Linear(memory_size, query_size, bias=False) if projected else None

    def keys(
        self, values: Float[Tensor, "batch source memory"]
    ) -> Float[Tensor, "batch source key"]:
        """Return s P m_j."""
        return self.scale * (values if self.key is None else self.key(values))

    def scores(
        self,
        query: Float[Tensor, "*steps batch query"],
        keys: Float[Tensor, "batch source key"],
        coverage: Float[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "*steps batch source"]:
        """Return q . key; there is no coverage."""
        del coverage
        return torch.einsum("...bk,bsk->...bs", query, keys)


def _set_sizes(attention: Attention, query_size: int, memory_size: int, key_size: int) -> None:
    for name, size in (("query_size", query_size), ("memory_size", memory_size)):
        check_size(name, size)
    check_size("size", key_size)
    attention.query_size, attention.memory_size = query_size, memory_size
    attention.key_size = key_size


@final
class AttentionCell(Cell):
    """Any cell that reads, beside its input, the context of an attention over a memory.

        c_t, alpha_t = attention(h_{t-1}, memory)
        h_t, s_t = cell([x_t; c_t], s_{t-1})
        output: [h_t; c_t]

    The state has the fields h (the output), `inner` (that of the cell, s), `values`, `keys` and
    `mask` (the memory), `covered` (the sum of earlier weights) under coverage, and `steps` if the
    cell has streams. A memory may have any number of positions. The initial state has one of zeros,
    so that its context is 0; `attend` puts a memory into a state.

    Arguments:
        cell: the decoder's cell; its input is as wide as x_t and m_j side by side, and its output
            as wide as a query.
        attention: the attention.

    Raises:
        ConfigurationError: widths that do not meet.
        OptionTypeError: no cell, or no attention.

    Example:
        >>> import throughtime as tt
        >>> from throughtime.cells import GRUCell
        >>> from throughtime.core.state import map_state
        >>> cell = AttentionCell(GRUCell(3 + 6, 4), AdditiveAttention(4, 6, 5))
        >>> layer = tt.Recurrent(cell)
        >>> start = cell.attend(torch.ones(2, 7, 6), torch.tensor([7, 2]))
        >>> outputs, state = layer(torch.ones(5, 2, 3), map_state(lambda s: s[None], start))
        >>> outputs.shape, cell.weights(outputs, start).shape
        (torch.Size([5, 2, 10]), torch.Size([5, 2, 7]))

    Source:
        Bahdanau, Cho & Bengio, "Neural machine translation by jointly learning to align and
        translate", ICLR 2015. There, the readout reads the context, hence the output.
    """

    def __init__(self, cell: Cell, attention: Attention):
        super().__init__()
        for name, value, kind in (("cell", cell, Cell), ("attention", attention, Attention)):
            if not isinstance(value, kind):
                raise OptionTypeError(name, got=type(value).__name__, expected=f"a {kind.__name__}")
        if cell.output_size != attention.query_size or cell.input_size <= attention.memory_size:
            raise ConfigurationError(
                "AttentionCell",
                got=f"a cell of input {cell.input_size} and output {cell.output_size}",
                expected=f"an input wider than the memory's {attention.memory_size}, and an "
                f"output of the queries' {attention.query_size}",
            )
        self.cell, self.attention = cell, attention
        self.input_size = cell.input_size - attention.memory_size
        self.hidden_size = cell.hidden_size
        self.output_size = cell.output_size + attention.memory_size
        self.streams, self.lasting = cell.streams, cell.lasting
        memory = Memory._fields
        self.supplied = (*memory, "covered") if attention.coverage else memory

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the cell's own initial state, and a memory of one position of zeros."""
        inner = self.cell.initial_state(batch_size, dtype=dtype, device=device)
        values = torch.zeros(batch_size, 1, self.attention.memory_size, dtype=dtype, device=device)
        keys = values.new_zeros(batch_size, 1, self.attention.key_size)
        return self._state(inner, Memory(values, keys, values.new_zeros(batch_size, 1)))

    def attend(
        self,
        values: Float[Tensor, "batch source memory"],
        lengths: Int[Tensor, " batch"] | None = None,
        inner: State | None = None,
    ) -> State:
        """Return the state before the first step over a memory.

        Arguments:
            values: m_j.
            lengths: positions of each sequence, at least 1; None where all are filled.
            inner: the cell's state; its initial state if None.

        Raises:
            ShapeError, LengthsError: as for `Attention.memory`.
        """
        memory = self.attention.memory(values, lengths)
        if inner is None:
            like = memory.values
            inner = self.cell.initial_state(len(like), dtype=like.dtype, device=like.device)
        return self._state(inner, memory)

    def _state(self, inner: State, memory: Memory) -> State:
        none_read = memory.values.new_zeros(len(memory.values), self.attention.memory_size)
        fields = {"h": torch.cat([inner.h, none_read], -1), "inner": inner, **memory._asdict()}
        if self.attention.coverage:
            fields["covered"] = torch.zeros_like(memory.mask)
        if self.streams:
            fields["steps"] = inner.steps
        return state_type(*fields)(**fields)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps input"]:
        """Return x itself: the cell's projection reads the context, too."""
        return x

    def step(
        self, projected: Float[Tensor, "batch input"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Attend, and run one step of the cell."""
        covered = getattr(state, "covered", None)
        memory = Memory(state.values, state.keys, state.mask)
        context, weights = self.attention(state.inner.h, memory, covered)
        read = self.cell.project(torch.cat([projected, context], -1))
        h, inner = advance(self.cell, read, state.inner, streams)
        output = torch.cat([h, context], -1)
        after = state._replace(h=output, inner=inner)
        if covered is not None:
            after = after._replace(covered=covered + weights)
        if self.streams:
            after = after._replace(steps=state.steps + 1)
        return output, after

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return the cell's streams."""
        return self.cell.draw_streams(steps, training=training, dtype=dtype, generator=generator)

    def weights(
        self, outputs: Float[Tensor, "time batch output"], state: State
    ) -> Float[Tensor, "time batch source"]:
        """Return the weights alpha_t of every step of a run.

        Arguments:
            outputs: outputs of the run.
            state: state before its first step, (batch, ...) a field.
        """
        read = outputs[:-1, :, : self.cell.output_size]
        queries = torch.cat([state.inner.h[None], read])
        memory = Memory(state.values, state.keys, state.mask)
        covered = getattr(state, "covered", None)
        if covered is None:
            return self.attention(queries, memory)[1]
        found: list[Tensor] = []
        for query in queries:
            found.append(self.attention(query, memory, covered)[1])
            covered = covered + found[-1]
        return torch.stack(found)
