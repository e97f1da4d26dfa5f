"""History of a reply as one vector: the last utterance, all symbols, or all utterances."""

import abc
from collections.abc import Callable
from typing import TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, state_type
from throughtime.layers import RecurrentLayer

Embed: TypeAlias = Callable[[Tensor], Tensor]
"""A function from symbols (time, row) to vectors (time, row, width)."""


class History(abc.ABC, nn.Module):
    """A map from the utterances up to each turn to a vector.

    Attributes:
        output_size: width of the vector.
    """

    output_size: int

    @abc.abstractmethod
    def forward(
        self,
        symbols: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        embed: Embed,
    ) -> Float[Tensor, "turn batch width"]:
        """Return the vector of utterances 1 to n at each turn n; 0 behind the last turn.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each, its end included, on the CPU; 0 behind the last turn.
            embed: embedding of symbols.
        """


def utterance_vectors(
    layer: RecurrentLayer,
    symbols: Int[Tensor, "turn time batch"],
    lengths: Int[Tensor, "turn batch"],
    embed: Embed,
) -> Float[Tensor, "turn batch width"]:
    """Return the outputs of a layer at the end of each utterance, directions side by side.

    Arguments:
        layer: layer over the symbols of an utterance.
        symbols: utterances, each with its end.
        lengths: symbols of each; 0 behind the last turn, where the vector is 0.
        embed: embedding of symbols.
    """
    flat = lengths.flatten()
    rows = flat.nonzero()[:, 0]
    texts = symbols.transpose(0, 1).flatten(1).index_select(1, rows.to(symbols.device))
    _, end = layer(embed(texts), lengths=flat[rows])
    state: State = end if isinstance(end, tuple) else state_type("h")(end)
    vectors = state.h[-layer.num_directions :].transpose(0, 1).flatten(1)
    whole = vectors.new_zeros(len(flat), vectors.shape[1])
    return whole.index_copy(0, rows.to(whole.device), vectors).view(*lengths.shape, -1)


@final
class Hierarchy(History):
    """A layer over the symbols of each utterance, and a second one over utterances.

        u_n = last output of utterance(symbols of n)
        c_n = context(u_n, c_{n-1})

    Arguments:
        utterance: layer over symbols, one way or both.
        context: layer over the vectors of utterances, forward in time.

    Raises:
        ConfigurationError: layers that do not fit each other.
    """

    def __init__(self, utterance: RecurrentLayer, context: RecurrentLayer):
        super().__init__()
        if context.bidirectional or context.input_size != utterance.output_size:
            raise ConfigurationError(
                "context",
                got="a bidirectional layer" if context.bidirectional else f"{context.input_size}",
                expected=f"a layer forward in time with an input of {utterance.output_size}",
            )
        self.utterance, self.context = utterance, context
        self.output_size = context.output_size

    def forward(
        self,
        symbols: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        embed: Embed,
    ) -> Float[Tensor, "turn batch width"]:
        """Return c_n at each turn.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each; 0 behind the last turn.
            embed: embedding of symbols.
        """
        return self.over(self.vectors(symbols, lengths, embed), lengths)

    def vectors(
        self,
        symbols: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        embed: Embed,
    ) -> Float[Tensor, "turn batch vector"]:
        """Return u_n of each utterance.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each; 0 behind the last turn.
            embed: embedding of symbols.
        """
        return utterance_vectors(self.utterance, symbols, lengths, embed)

    def over(
        self, vectors: Float[Tensor, "turn batch vector"], lengths: Int[Tensor, "turn batch"]
    ) -> Float[Tensor, "turn batch width"]:
        """Return c_n at each turn, from u_1 ... u_n.

        Arguments:
            vectors: u_n.
            lengths: symbols of each utterance; 0 behind the last turn.
        """
        outputs, _ = self.context(vectors, lengths=(lengths > 0).sum(0))
        return outputs


@final
class LastUtterance(History):
    """A layer over the symbols of the last utterance alone.

    Arguments:
        layer: layer over symbols, one way or both.
    """

    def __init__(self, layer: RecurrentLayer):
        super().__init__()
        self.layer, self.output_size = layer, layer.output_size

    def forward(
        self,
        symbols: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        embed: Embed,
    ) -> Float[Tensor, "turn batch width"]:
        """Return the layer's last outputs of each utterance.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each; 0 behind the last turn.
            embed: embedding of symbols.
        """
        return utterance_vectors(self.layer, symbols, lengths, embed)


@final
class AllSymbols(History):
    """A layer over the symbols of all utterances, one after the other, their ends included.

    One pass over the dialogue gives the vectors of all turns.

    Arguments:
        layer: layer over symbols, forward in time.

    Raises:
        ConfigurationError: a bidirectional layer, which reads later utterances.
    """

    def __init__(self, layer: RecurrentLayer):
        super().__init__()
        if layer.bidirectional:
            raise ConfigurationError(
                "a layer over the whole dialogue",
                got="a bidirectional layer",
                expected="a layer forward in time: it reads the dialogue once for all turns",
            )
        self.layer, self.output_size = layer, layer.output_size

    def forward(
        self,
        symbols: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        embed: Embed,
    ) -> Float[Tensor, "turn batch width"]:
        """Return the layer's output at the end of each utterance.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each; 0 behind the last turn.
            embed: embedding of symbols.
        """
        steps = torch.arange(symbols.shape[1])[:, None]
        there = (steps < lengths[:, None]).permute(2, 0, 1)  # (batch, turn, time)
        flat = symbols.permute(2, 0, 1)[there.to(symbols.device)]
        totals = lengths.sum(0)
        texts = pad_sequence([*flat.split(totals.tolist())])
        outputs, _ = self.layer(embed(texts), lengths=totals)
        ends = (lengths.cumsum(0) - 1).clamp(min=0).to(outputs.device)
        found = outputs[ends, torch.arange(len(totals), device=outputs.device)]
        return found * (lengths > 0).to(outputs)[..., None]
