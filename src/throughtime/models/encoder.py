"""The encoder of a source: its outputs, its summary, and the states that a decoder starts from."""

from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.sequence import check_lengths, reverse_time
from throughtime.core.state import State, map_state, state_tensors, state_type
from throughtime.layers import RecurrentLayer
from throughtime.tasks.kinds import Tokens, Vector, Vectors


class Encoded(NamedTuple):
    """An encoded source.

    Attributes:
        outputs: output at each position of the source, in the source's order, 0 on padding; None
            for one vector.
        lengths: positions of each source, on the CPU; None where all are filled.
        summary: outputs of the top level at each direction's own end, side by side.
        starts: state of each level of the decoder before its first step.
    """

    outputs: Float[Tensor, "source batch width"] | None
    lengths: Int[Tensor, " batch"] | None
    summary: Float[Tensor, "batch width"]
    starts: tuple[State, ...]


@final
class Encoder(nn.Module):
    """A recurrent layer over a source, or a linear layer of one vector.

    The state of each level becomes that of the decoder's level as it is. From a layer in both
    directions, each field is a linear map of both directions' fields, with a tanh for h. One vector
    v gives h = tanh(W v + b) at each level.

    Arguments:
        source: kind of the source. Symbols are embedded, as wide as the layer's input.
        layer: layer of the decoder's cell, size and levels, one way or both; None for one vector.
        decoder: layer that starts from the states.
        reverse: If True, each source is read from its end, within its length (Sutskever et al.
            2014); `outputs` stay in the source's order.
        dropout: probability that an element of an embedding is zeroed in training.

    Raises:
        ConfigurationError: layers that do not fit each other or the source.
    """

    def __init__(
        self,
        source: Tokens | Vectors | Vector,
        layer: RecurrentLayer | None,
        decoder: RecurrentLayer,
        *,
        reverse: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.kind, self.layer, self.reverse, self.dropout = source, layer, reverse, dropout
        cells = decoder.cells()
        self.levels, self.form = len(cells), _zeros(decoder)
        self.embedding = None
        if isinstance(source, Vector):
            if layer is not None or reverse:
                raise ConfigurationError(
                    "encoder",
                    got="a layer, or reverse=True, for a source of one vector",
                    expected="neither: one vector has no order",
                )
            self.output_size = cells[0].output_size
            self.linear = nn.Linear(source.width, self.levels * self.output_size)
            return
        if layer is None or (isinstance(source, Vectors) and layer.input_size != source.width):
            raise ConfigurationError(
                "encoder",
                got="no layer" if layer is None else f"an input of {layer.input_size}",
                expected=f"a layer for a source of {source}",
            )
        if _shapes(_zeros(layer)) != _shapes(self.form) or layer.num_layers != self.levels:
            raise ConfigurationError(
                "encoder and decoder",
                got=f"{layer} and {decoder}",
                expected="the same cell, size and number of levels, so that states pass over",
            )
        if isinstance(source, Tokens):
            self.embedding = nn.Embedding(source.alphabet, layer.input_size)
        self.output_size = layer.output_size
        widths = [t.shape[-1] for t in state_tensors(self.form) if t.is_floating_point()]
        count = self.levels if layer.bidirectional else 0
        self.joined = nn.ModuleList(nn.Linear(2 * w, w) for _ in range(count) for w in widths)

    def forward(self, source: Tensor, lengths: Int[Tensor, " batch"] | None = None) -> Encoded:
        """Return the encoded source.

        Arguments:
            source: (source, batch) int64 symbols, (source, batch, width) vectors, or (batch, width)
                one vector.
            lengths: positions of each source, at least 1; what lies beyond is not read.

        Raises:
            ShapeError: other axes, or no position.
            LengthsError: lengths out of range.
        """
        axes = {Tokens: 2, Vectors: 3, Vector: 2}[type(self.kind)]
        if source.dim() != axes or not source.numel():
            raise ShapeError(
                "source", got=f"shape {tuple(source.shape)}", expected=f"{axes} axes, none empty"
            )
        if isinstance(self.kind, Vector):
            return self._of_vector(source)
        assert self.layer is not None
        if lengths is not None:
            lengths = check_lengths(lengths, source.shape[0], source.shape[1])
        if self.reverse:
            source = reverse_time(source, lengths)
        if self.embedding is not None:
            source = F.dropout(self.embedding(source), self.dropout, self.training)
        outputs, end = self.layer(source, lengths=lengths)
        if self.reverse:
            outputs = reverse_time(outputs, lengths)
        state: State = end if isinstance(end, tuple) else state_type("h")(end)
        directions = self.layer.num_directions
        summary = state.h[-directions:].transpose(0, 1).flatten(1)
        states = [map_state(lambda s, i=i: s[i], state) for i in range(self.levels * directions)]
        if directions == 2:
            states = [self._both(k, *states[2 * k : 2 * k + 2]) for k in range(self.levels)]
        return Encoded(outputs, lengths, summary, tuple(states))

    def _of_vector(self, source: Float[Tensor, "batch width"]) -> Encoded:
        made = self.linear(source).tanh().chunk(self.levels, -1)
        count = len(source)
        fresh = map_state(lambda s: s.to(source).expand(count, *s.shape[1:]), self.form)
        return Encoded(None, None, made[-1], tuple(fresh._replace(h=h) for h in made))

    def _both(self, level: int, forward: State, backward: State) -> State:
        """Return the decoder's state of a level from those of both directions."""
        count = len(self.joined) // self.levels
        maps = iter(self.joined[level * count : (level + 1) * count])

        def join(one: Tensor, other: Tensor) -> Tensor:
            return next(maps)(torch.cat([one, other], -1)) if one.is_floating_point() else one

        state = map_state(join, forward, backward)
        return state._replace(h=state.h.tanh())


def _zeros(layer: RecurrentLayer) -> State:
    """Return the initial state of a level, of one sequence."""
    cell = layer.cells()[0]
    like = next(cell.parameters())
    return cell.initial_state(1, dtype=like.dtype, device=like.device)


def _shapes(state: State) -> list[tuple[str, tuple[int, ...]]]:
    return [(str(state._fields), tuple(tensor.shape)) for tensor in state_tensors(state)]
