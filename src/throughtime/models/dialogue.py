"""Models of dialogues: the next utterance, given those before it."""

import abc
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.latent import Random
from throughtime.core.state import State
from throughtime.models.encoder_decoder import EncoderDecoder
from throughtime.models.history import History
from throughtime.tasks.dialogues import ReplyRows, grouped_losses, reply_rows
from throughtime.tasks.kinds import Dialogues, Vector


class Replies(NamedTuple):
    """The decoder before each reply of a batch.

    Attributes:
        rows: The replies.
        state: State of the decoder.
        kl: KL divergence of the posterior from the prior of each reply, in nats; 0 without latent
            variables.
        auxiliary: Term of each reply in the training loss, in nats; 0 in evaluation.
    """

    rows: ReplyRows
    state: State
    kl: Float[Tensor, " row"]
    auxiliary: Float[Tensor, " row"]


class DialogueModel(abc.ABC, nn.Module):
    """A model of the symbols of an utterance, given the utterances before it.

    Arguments:
        kind: kind of the dialogues.
        history: map from the utterances before to a vector c.
        decoder: decoder of a source of one vector, which is c and, where there is one, a latent
            variable. Its embedding is that of all utterances.
        latent_size: width of the latent variable; 0 for none.

    Attributes:
        alphabet: number of symbols.
        latent_size: width of the latent variable of an utterance; 0 for none.

    Raises:
        ConfigurationError: parts that do not fit each other.
    """

    def __init__(
        self, kind: Dialogues, history: History, decoder: EncoderDecoder, latent_size: int
    ):
        super().__init__()
        source = decoder.encoder.kind
        width = history.output_size + latent_size
        if source != Vector(width) or decoder.alphabet != kind.alphabet:
            raise ConfigurationError(
                "decoder",
                got=f"{source} and {decoder.alphabet} symbols",
                expected=f"one vector of {width}, and {kind.alphabet} symbols",
            )
        self.kind, self.alphabet, self.latent_size = kind, kind.alphabet, latent_size
        self.history, self.decoder = history, decoder

    @abc.abstractmethod
    def replies(
        self,
        symbols: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        random: Random = None,
    ) -> Replies:
        """Return the decoder's state before each utterance but the first.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each, on the CPU; 0 behind the last turn.
            random: source of the random numbers; each dialogue has its own.

        Raises:
            ShapeError: other axes, or a dialogue without an utterance.
        """

    @abc.abstractmethod
    def source(
        self, contexts: Float[Tensor, "row width"], random: Random
    ) -> Float[Tensor, "row source"]:
        """Return the decoder's sources of replies that are to be made.

        Arguments:
            contexts: vectors of the utterances before.
            random: source of the random numbers; each row has its own.
        """

    @final
    def contexts(
        self, symbols: Int[Tensor, "turn time batch"], lengths: Int[Tensor, "turn batch"]
    ) -> Float[Tensor, "turn batch width"]:
        """Return the vector of utterances 1 to n at each turn n; 0 behind the last turn.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each, its end included, on the CPU; 0 behind the last turn.

        Raises:
            ShapeError: other axes, or a dialogue without an utterance.
        """
        check_dialogues(symbols, lengths)
        return self.history(symbols, lengths, self.embed)

    @final
    def encode(
        self,
        symbols: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        *,
        random: Random = None,
    ) -> State:
        """Return the decoder's state before the utterance that follows each dialogue.

        A latent variable is drawn from its prior.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each, its end included, on the CPU; 0 behind the last turn.
            random: source of the random numbers; each dialogue has its own.

        Raises:
            ShapeError: other axes, or a dialogue without an utterance.
        """
        contexts = self.contexts(symbols, lengths)
        last = ((lengths > 0).sum(0) - 1).to(contexts.device)
        rows = torch.arange(len(last), device=contexts.device)
        return self.decoder.encode(self.source(contexts[last, rows], random))

    @final
    def forward(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        state: State = None,
    ) -> tuple[Float[Tensor, "time batch alphabet"], State]:
        """Return the logits of each next symbol of a reply, and the state after the last one.

        Arguments:
            symbols: symbols that the decoder reads, or (time, batch, alphabet) weights of them; the
                first is the one that begins an utterance.
            state: state before them: of `encode`, or of the symbols before.

        Raises:
            StateError: no state.
        """
        return self.decoder(symbols, state)

    @final
    def losses(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        targets: Int[Tensor, "time batch"],
        state: State,
    ) -> tuple[Float[Tensor, "time batch"], State]:
        """Return the negative log-likelihood of each target in nats, and the state after the last.

        Arguments:
            symbols: symbols that the decoder reads.
            targets: symbol that follows each; -1 where none is due: its loss is 0.
            state: state before them.
        """
        return self.decoder.losses(symbols, targets, state)

    @final
    def select(self, state: State, rows: Int[Tensor, " rows"]) -> State:
        """Return the state of some replies.

        Arguments:
            state: state of several.
            rows: their numbers, any of them more than once.
        """
        return self.decoder.select(state, rows)

    @final
    def reply_log_prob(self, rows: ReplyRows, state: State) -> Float[Tensor, " row"]:
        """Return log p(reply | state) of each reply, in nats.

        Arguments:
            rows: replies.
            state: state of the decoder before each.
        """
        return -grouped_losses(self, rows, state)

    @final
    def embed(self, symbols: Int[Tensor, "time row"]) -> Float[Tensor, "time row width"]:
        """Return the vectors that the history reads.

        Arguments:
            symbols: symbols.
        """
        found = self.decoder.embedding(symbols)
        return F.dropout(found, self.decoder.dropout, self.training)


def check_dialogues(symbols: Tensor, lengths: Tensor) -> None:
    """Raise ShapeError unless each dialogue of a batch has an utterance.

    Arguments:
        symbols: utterances.
        lengths: symbols of each.
    """
    if symbols.dim() != 3 or lengths.shape != symbols.shape[::2] or not symbols.numel():
        raise ShapeError(
            "dialogues",
            got=f"symbols {tuple(symbols.shape)} and lengths {tuple(lengths.shape)}",
            expected="(turn, time, batch) and (turn, batch)",
        )
    there = lengths > 0
    if not bool(there[0].all()) or bool((there[1:] & ~there[:-1]).any()):
        raise ShapeError(
            "lengths of utterances",
            got="a dialogue without a first utterance, or with a gap",
            expected="at least one utterance, and 0 behind the last one",
        )


def of_dialogues(
    rows: Float[Tensor, " row"], dialogue: Int[Tensor, " row"], batch: int
) -> Float[Tensor, " batch"]:
    """Return the sums of the replies of each dialogue.

    Arguments:
        rows: a number of each reply.
        dialogue: row of the dialogue of each reply.
        batch: number of dialogues.
    """
    return rows.new_zeros(batch).index_add(0, dialogue, rows)


@final
class ReplyModel(DialogueModel):
    """A model of replies without latent variables: HRED, or one of its flat baselines.

        c = history(u_1 ... u_{n-1})
        log p(u_n | u_1 ... u_{n-1}) = sum_t log p(w_t | w_1 ... w_{t-1}, c)      by the decoder

    With a `Hierarchy` it is the hierarchical recurrent encoder-decoder (HRED). With `LastUtterance`
    or `AllSymbols` it is a flat model with the same decoder.

    Arguments:
        kind: kind of the dialogues.
        history: map from the utterances before to c.
        decoder: decoder of a source of one vector, c; its embedding is that of all utterances.

    Raises:
        ConfigurationError: parts that do not fit each other.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.models.encoder_decoder import EncoderDecoder
        >>> from throughtime.models.history import Hierarchy
        >>> from throughtime.tasks.kinds import Pairs, Tokens, Vector
        >>> decoder = EncoderDecoder(Pairs(Vector(8), Tokens(7)), None, GRU(4, 8))
        >>> history = Hierarchy(GRU(4, 8), GRU(8, 8))
        >>> model = ReplyModel(Dialogues(7, begin=1), history, decoder)
        >>> symbols, lengths = torch.zeros(3, 5, 2, dtype=torch.int64), torch.full((3, 2), 5)
        >>> model.log_prob(symbols, lengths).shape
        torch.Size([2])

    Source:
        Sordoni et al., "A hierarchical recurrent encoder-decoder for generative context-aware query
        suggestion", CIKM 2015; Serban et al., "Building end-to-end dialogue systems using
        generative hierarchical neural network models", AAAI 2016. The first utterance is not
        predicted here, and the readout is a tanh layer (our choices).
    """

    def __init__(self, kind: Dialogues, history: History, decoder: EncoderDecoder):
        super().__init__(kind, history, decoder, 0)

    def replies(
        self,
        symbols: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        random: Random = None,
    ) -> Replies:
        """Return the decoder's state before each utterance but the first.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each, on the CPU; 0 behind the last turn.
            random: unused.

        Raises:
            ShapeError: other axes, or a dialogue without an utterance.
        """
        del random
        rows = reply_rows(symbols, lengths, self.kind.begin)
        contexts = self.contexts(symbols, lengths)[rows.turn - 1, rows.dialogue]
        none = contexts.new_zeros(len(contexts))
        return Replies(rows, self.decoder.encode(contexts), none, none)

    def source(
        self, contexts: Float[Tensor, "row width"], random: Random
    ) -> Float[Tensor, "row source"]:
        """Return the contexts.

        Arguments:
            contexts: vectors of the utterances before.
            random: unused.
        """
        del random
        return contexts

    def log_prob(
        self, symbols: Int[Tensor, "turn time batch"], lengths: Int[Tensor, "turn batch"]
    ) -> Float[Tensor, " batch"]:
        """Return the log-probability of all replies of each dialogue, in nats.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each, on the CPU; 0 behind the last turn.
        """
        rows, state, *_ = self.replies(symbols, lengths)
        found = self.reply_log_prob(rows, state)
        return of_dialogues(found, rows.dialogue, symbols.shape[2])
