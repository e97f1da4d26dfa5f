"""Encoder and decoder: a source, and the symbols that follow from it."""

from typing import Any, Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, StateError, UnknownNameError
from throughtime.core.state import State, map_state, state_type
from throughtime.layers import Recurrent, RecurrentLayer
from throughtime.memory.attention import Attention, AttentionCell, Memory
from throughtime.models.encoder import Encoded, Encoder
from throughtime.models.readout_loss import readout_losses
from throughtime.tasks.kinds import Pairs

Context: TypeAlias = Literal["initial", "every-step", "attention", "attention-after"]
_CONTEXTS = ("initial", "every-step", "attention", "attention-after")


@final
class EncoderDecoder(nn.Module):
    """A model of the next symbol of a target, given its source and the symbols before.

        "initial":          h_t = decoder(y_{t-1}, h_{t-1})           o_t = h_t
        "every-step":       h_t = decoder([y_{t-1}; c], h_{t-1})      o_t = [h_t; c; y_{t-1}]
        "attention":        h_t = decoder([y_{t-1}; c_t], h_{t-1})    o_t = [h_t; c_t; y_{t-1}]
        "attention-after":  h_t = decoder(y_{t-1}, h_{t-1})           o_t = [h_t; c_t]
        log p(y_t | y_1 ... y_{t-1}, source) = log softmax(V tanh(W o_t + b) + b')

    y are embeddings. c is the encoder's summary. c_t is the context of an attention over the
    encoder's outputs, from h_{t-1} ("attention"; Bahdanau et al. 2015) or from h_t
    ("attention-after"; Luong et al. 2015). All start from the encoder's states. Without a context,
    o_t itself is read, except where the weights are tied and of another width.

    Arguments:
        kinds: kinds of the source and of the target.
        encoder: layer over the source, one way or both; None for a source of one vector.
        decoder: layer over the target, of the same cell, size and number of levels. It reads
            embeddings, and behind them the context under "every-step" and "attention".
        context: way of the source into the decoder.
        attention: attention from the decoder's outputs to the encoder's; None without one.
        reverse: If True, the encoder reads the source from its end.
        dropout: probability that an element of an embedding, or of what the readout reads, is
            zeroed in training.
        tied: If True, V is the embedding of the target (Press & Wolf 2017).
        word_dropout: probability that a symbol which the decoder reads is read as zeros in
            training, by a coin of its own (Bowman et al. 2016, whose symbol for unknown words is
            zeros here); never `begin`.
        begin: symbol that begins a target; only word dropout needs it.

    Raises:
        ConfigurationError: parts that do not fit each other.
        UnknownNameError: an unknown context.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.tasks.kinds import Tokens
        >>> model = EncoderDecoder(Pairs(Tokens(9), Tokens(7)), GRU(4, 8), GRU(4, 8))
        >>> source, lengths = torch.zeros(5, 2, dtype=torch.int64), torch.tensor([5, 3])
        >>> state = model.encode(source, lengths)
        >>> logits, state = model(torch.tensor([[0, 0], [3, 2]]), state)
        >>> logits.shape
        torch.Size([2, 2, 7])

    Source:
        Sutskever, Vinyals & Le, "Sequence to sequence learning with neural networks", NIPS 2014;
        Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014, whose
        maxout layer is a tanh layer here; and the papers above.
    """

    def __init__(
        self,
        kinds: Pairs,
        encoder: RecurrentLayer | None,
        decoder: RecurrentLayer,
        *,
        context: Context = "initial",
        attention: Attention | None = None,
        reverse: bool = False,
        dropout: float = 0.0,
        tied: bool = False,
        word_dropout: float = 0.0,
        begin: int | None = None,
    ):
        super().__init__()
        if context not in _CONTEXTS:
            raise UnknownNameError("context", context, _CONTEXTS)
        if not 0 <= word_dropout <= 1 or (word_dropout and begin is None):
            raise ConfigurationError(
                "word_dropout",
                got=f"{word_dropout} and begin={begin}",
                expected="a probability, and the symbol that is never dropped",
            )
        self.word_dropout, self.begin = float(word_dropout), begin
        _check_decoder(decoder, dropout)
        self.encoder = Encoder(kinds.source, encoder, decoder, reverse=reverse, dropout=dropout)
        self.context: Context = context
        self.alphabet, self.dropout = kinds.target.alphabet, float(dropout)
        _check_attention(context, attention, self.encoder, decoder)
        memory = self.encoder.output_size
        embedding = decoder.input_size - memory * (context in ("every-step", "attention"))
        if embedding < 1:
            raise ConfigurationError(
                "decoder",
                got=f"an input of {decoder.input_size}",
                expected=f"an embedding and a context of {memory}",
            )
        self.embedding = nn.Embedding(self.alphabet, embedding)
        self.attention = attention if context == "attention-after" else None
        width = decoder.output_size
        if context != "initial":
            width += memory + embedding * (context != "attention-after")
        if context == "attention":
            assert attention is not None
            cell = AttentionCell(decoder.as_cell(), attention)
            decoder = Recurrent(cell, engine=decoder.engine)
        self.decoder = decoder
        combined = context != "initial" or (tied and width != embedding)
        self.combine = nn.Linear(width, embedding) if combined else None
        self.readout = nn.Linear(embedding if combined else width, self.alphabet)
        if tied:
            self.readout.weight = self.embedding.weight

    def encode(self, source: Tensor, source_lengths: Int[Tensor, " batch"] | None = None) -> State:
        """Return the decoder's state before its first symbol.

        Arguments:
            source: (source, batch) int64 symbols, (source, batch, width) vectors, or (batch, width)
                one vector.
            source_lengths: positions of each source, at least 1; what lies beyond is not read.

        Raises:
            ShapeError, LengthsError: an empty source, or lengths out of range.
        """
        encoded = self.encoder(source, source_lengths)
        if self.context == "initial":
            return state_type("decoder")(_stacked(encoded.starts))
        if self.context == "every-step":
            return state_type("decoder", "context")(_stacked(encoded.starts), encoded.summary)
        assert encoded.outputs is not None
        values = encoded.outputs.transpose(0, 1)
        if self.attention is not None:
            memory = self.attention.memory(values, encoded.lengths)
            fields = ("decoder", *Memory._fields)
            return state_type(*fields)(_stacked(encoded.starts), *memory)
        start = self._attention_cell().attend(values, encoded.lengths, self._inner(encoded))
        return state_type("decoder")(map_state(lambda s: s[None], start))

    def forward(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        state: State = None,
    ) -> tuple[Float[Tensor, "time batch alphabet"], State]:
        """Return the logits of each next symbol, and the state after the last one.

        Arguments:
            symbols: symbols that the decoder reads, or (time, batch, alphabet) weights of them; the
                first is the one that begins a target.
            state: state before them: of `encode`, or of the symbols before.

        Raises:
            StateError: no state.
        """
        features, state = self.features(symbols, state)
        return self.logits(features), state

    def losses(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        targets: Int[Tensor, "time batch"],
        state: State,
    ) -> tuple[Float[Tensor, "time batch"], State]:
        """Return the negative log-likelihood of each target in nats, and the state after the last.

        Logits are computed where a target is due alone.

        Arguments:
            symbols: symbols that the decoder reads.
            targets: symbol that follows each; -1 where none is due: its loss is 0.
            state: state before them.
        """
        features, state = self.features(symbols, state)
        return readout_losses(self.readout, features, targets), state

    def select(self, state: State, rows: Int[Tensor, " rows"]) -> State:
        """Return the state of some sequences of a batch.

        Arguments:
            state: state of the batch.
            rows: numbers of the sequences, any of them more than once.
        """
        decoder = map_state(lambda s: s.index_select(1, rows), state.decoder)
        rest = (s.index_select(0, rows) for s in state[1:])
        return type(state)(decoder, *rest)

    def alignment(
        self, symbols: Int[Tensor, "time batch"], state: State
    ) -> Float[Tensor, "time batch source"]:
        """Return the weights of the attention over the source, at each symbol.

        Arguments:
            symbols: symbols that the decoder reads.
            state: state before them.

        Raises:
            ConfigurationError: a model without attention.
        """
        if self.context not in ("attention", "attention-after"):
            raise ConfigurationError(
                "alignment", got=f"context={self.context!r}", expected="a model with attention"
            )
        outputs, _ = self.decoder(self._read(symbols, state), state.decoder)
        if self.attention is not None:
            return self.attention(outputs, Memory(*state[1:]))[1]
        return self._attention_cell().weights(outputs, map_state(lambda s: s[0], state.decoder))

    def features(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        state: State = None,
    ) -> tuple[Float[Tensor, "time batch width"], State]:
        """Return what the readout reads after each symbol, and the state after the last one.

        Arguments:
            symbols: symbols that the decoder reads, or (time, batch, alphabet) weights of them.
            state: state before them.

        Raises:
            StateError: no state.
        """
        read = self._read(symbols, state)
        outputs, decoder = self.decoder(read, state.decoder)
        y = read[..., : self.embedding.embedding_dim]
        if self.context == "every-step":
            outputs = torch.cat([outputs, _repeated(state.context, len(symbols)), y], -1)
        elif self.context == "attention":
            outputs = torch.cat([outputs, y], -1)
        elif self.attention is not None:
            context, _ = self.attention(outputs, Memory(*state[1:]))
            outputs = torch.cat([outputs, context], -1)
        if self.combine is not None:
            outputs = self.combine(outputs).tanh()
        outputs = F.dropout(outputs, self.dropout, self.training)
        return outputs, state._replace(decoder=decoder)

    def logits(
        self, features: Float[Tensor, "time batch width"]
    ) -> Float[Tensor, "time batch alphabet"]:
        """Return the logits of each next symbol.

        Arguments:
            features: inputs of the readout.
        """
        return self.readout(features)

    def _read(self, symbols: Tensor, state: State) -> Tensor:
        """Return what the decoder's layer reads."""
        if state is None:
            raise StateError(
                "state of a decoder",
                got="None",
                expected="that of a source",
                fix="Begin with state = model.encode(source, source_lengths).",
            )
        if symbols.is_floating_point():
            read = symbols @ self.embedding.weight
        else:
            read = self.embedding(symbols)
        if self.training and self.word_dropout:
            read = read * self._kept(symbols)[..., None]
        read = F.dropout(read, self.dropout, self.training)
        if self.context != "every-step":
            return read
        return torch.cat([read, _repeated(state.context, len(symbols))], -1)

    def _kept(self, symbols: Tensor) -> Tensor:
        """Return False for the symbols that word dropout zeroes: one coin a symbol."""
        kept = torch.rand(symbols.shape[:2], device=symbols.device) >= self.word_dropout
        if symbols.is_floating_point():
            return kept | (symbols[..., self.begin] == 1)
        return kept | (symbols == self.begin)

    def _attention_cell(self) -> AttentionCell:
        """Return the decoder's cell with the layer's own tensors."""
        (cell,) = self.decoder.cells()
        assert isinstance(cell, AttentionCell)
        return cell

    def _inner(self, encoded: Encoded) -> State:
        """Return the state of the cell within the attention cell."""
        states = encoded.starts
        if len(states) == 1:
            return states[0]
        like = states[0].h
        inner = self._attention_cell().cell.initial_state(
            like.shape[0], dtype=like.dtype, device=like.device
        )
        return inner._replace(h=states[-1].h, layers=states)


def _check_decoder(decoder: RecurrentLayer, dropout: float) -> None:
    if decoder.bidirectional:
        raise ConfigurationError(
            "decoder",
            got="a bidirectional layer",
            expected="a layer that goes forward in time",
            fix="The encoder alone may be bidirectional.",
        )
    if not 0 <= dropout < 1:
        raise ConfigurationError("dropout", got=dropout, expected="a probability below 1")


def _check_attention(
    context: Context, attention: Attention | None, encoder: Encoder, decoder: RecurrentLayer
) -> None:
    attends = context in ("attention", "attention-after")
    if attends != (attention is not None):
        raise ConfigurationError(
            f"context={context!r}",
            got="no attention" if attention is None else "an attention",
            expected="an attention" if attends else "none",
        )
    if attention is None:
        return
    if encoder.layer is None:
        raise ConfigurationError(
            f"context={context!r}", got="one vector", expected="a source with several positions"
        )
    widths = (attention.query_size, attention.memory_size)
    expected = (decoder.output_size, encoder.output_size)
    if widths != expected:
        raise ConfigurationError(
            "attention",
            got=f"queries of {widths[0]} and a memory of {widths[1]}",
            expected=f"{expected[0]}, the decoder's output, and {expected[1]}, the encoder's",
        )
    if attention.coverage and context == "attention-after":
        raise ConfigurationError(
            "coverage",
            got="attention after the decoder, computed for all steps at once",
            expected="context='attention', which goes step by step",
        )


def _repeated(context: Float[Tensor, "batch width"], time: int) -> Tensor:
    return context.expand(time, *context.shape)


def _stacked(starts: tuple[State, ...]) -> Any:
    """Return the states of all levels as a layer takes them."""
    return map_state(lambda *s: torch.stack(s), *starts)
