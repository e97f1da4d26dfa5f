"""Families of dialogue models around a cell: HRED, VHRED, and flat baselines."""

from typing import Any, Literal, NamedTuple

from torch import nn

from throughtime.core.errors import ConfigurationError
from throughtime.models.dialogue import ReplyModel
from throughtime.models.encoder_decoder import EncoderDecoder
from throughtime.models.families import FAMILIES, MakeLayer
from throughtime.models.history import AllSymbols, Hierarchy, History, LastUtterance
from throughtime.models.vhred import VHRED
from throughtime.tasks.kinds import Answers, Dialogues, Inputs, Likelihood, Pairs, Tokens, Vector


class _Options(NamedTuple):
    """Options that all families of dialogues share."""

    context: Literal["initial", "every-step"]
    embedding: int
    dropout: float
    tied: bool
    word_dropout: float


@FAMILIES.register("hred")
def _hred(
    inputs: Inputs,
    answers: Answers,
    layer: MakeLayer,
    *,
    context: Literal["initial", "every-step"] = "every-step",
    embedding: int = 64,
    bidirectional: bool = False,
    dropout: float = 0.0,
    tied: bool = False,
    word_dropout: float = 0.0,
) -> ReplyModel:
    """Dialogues: layers over symbols and over utterances, and a decoder of the next utterance."""
    kind = _dialogues(inputs, answers, "hred")
    options = _Options(context, embedding, dropout, tied, word_dropout)
    history = _hierarchy(layer, options, bidirectional)
    return ReplyModel(kind, history, _decoder(kind, history, layer, options))


@FAMILIES.register("vhred")
def _vhred(
    inputs: Inputs,
    answers: Answers,
    layer: MakeLayer,
    *,
    latent: int = 32,
    bag_of_words: float = 0.0,
    context: Literal["initial", "every-step"] = "every-step",
    embedding: int = 64,
    bidirectional: bool = False,
    dropout: float = 0.0,
    tied: bool = False,
    word_dropout: float = 0.25,
) -> VHRED:
    """HRED with a latent variable for each utterance."""
    kind = _dialogues(inputs, answers, "vhred")
    options = _Options(context, embedding, dropout, tied, word_dropout)
    history = _hierarchy(layer, options, bidirectional)
    decoder = _decoder(kind, history, layer, options, latent)
    return VHRED(kind, history, decoder, latent, bag_of_words)


@FAMILIES.register("flat-dialogue")
def _flat_dialogue(
    inputs: Inputs,
    answers: Answers,
    layer: MakeLayer,
    *,
    reads: Literal["last", "all"] = "last",
    context: Literal["initial", "every-step"] = "every-step",
    embedding: int = 64,
    bidirectional: bool = False,
    dropout: float = 0.0,
    tied: bool = False,
    word_dropout: float = 0.0,
) -> ReplyModel:
    """Dialogues without a hierarchy: one layer reads the last utterance, or all symbols before."""
    kind = _dialogues(inputs, answers, "flat-dialogue")
    options = _Options(context, embedding, dropout, tied, word_dropout)
    own = _layer(layer, embedding, options, bidirectional)
    history = LastUtterance(own) if reads == "last" else AllSymbols(own)
    return ReplyModel(kind, history, _decoder(kind, history, layer, options))


def _dialogues(inputs: Inputs, answers: Answers, family: str) -> Dialogues:
    if not (isinstance(inputs, Dialogues) and isinstance(answers, Likelihood)):
        raise ConfigurationError(
            f"model {family!r}",
            got=f"{inputs} and {answers}",
            expected="dialogues, and their likelihood",
        )
    return inputs


def _layer(layer: MakeLayer, width: int, options: _Options, bidirectional: bool) -> Any:
    made = layer(width, bidirectional=bidirectional)
    made.dropout = options.dropout
    return made


def _hierarchy(layer: MakeLayer, options: _Options, bidirectional: bool) -> Hierarchy:
    utterance = _layer(layer, options.embedding, options, bidirectional)
    return Hierarchy(utterance, _layer(layer, utterance.output_size, options, False))


def _decoder(
    kind: Dialogues, history: History, layer: MakeLayer, options: _Options, latent: int = 0
) -> EncoderDecoder:
    # the decoder's summary of its source is as wide as its output
    every_step = options.context == "every-step"
    width = options.embedding + (layer(1).output_size if every_step else 0)
    decoder = EncoderDecoder(
        Pairs(Vector(history.output_size + latent), Tokens(kind.alphabet)),
        None,
        _layer(layer, width, options, False),
        context=options.context,
        dropout=options.dropout,
        tied=options.tied,
        word_dropout=options.word_dropout,
        begin=kind.begin,
    )
    if options.tied:  # logits of a new model are small: our choice
        nn.init.normal_(decoder.embedding.weight, std=options.embedding**-0.5)
    return decoder
