"""Families of models around a cell: readout, language model, encoder-decoder, attention."""

import math
import re
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from throughtime.cells import LatchUnitCell
from throughtime.core.errors import ConfigurationError
from throughtime.core.registry import Registry
from throughtime.layers import GridLSTM, GridRNN, Recurrent
from throughtime.memory import AdditiveAttention, DotAttention
from throughtime.models.encoder_decoder import EncoderDecoder
from throughtime.models.image_models import GridModel, RasterModel
from throughtime.models.language_model import LanguageModel
from throughtime.models.readout import SequenceModel
from throughtime.models.residual import MapKind, ResidualNetwork
from throughtime.models.story_reader import StoryReader
from throughtime.tasks.kinds import (
    Answers,
    Bits,
    Classes,
    Images,
    Inputs,
    Likelihood,
    Pairs,
    Stories,
    Tokens,
    Values,
    Vector,
    Vectors,
)


@runtime_checkable
class MakeLayer(Protocol):
    """A function from an input size to the recurrent layer of a model."""

    def __call__(self, input_size: int, *, bidirectional: bool = ...) -> Recurrent:
        """Return the layer; a family may decide about its directions."""
        ...


FAMILIES = Registry[nn.Module]("family")
"""Families of models by name.

A builder takes `inputs` and `answers`, the task's kinds, then `layer`, a `MakeLayer`, and its own
options. A builder without `layer` has a cell of its own, and no options of cells.
"""


@FAMILIES.register("readout")
def _readout(
    inputs: Inputs, answers: Answers, layer: MakeLayer, *, embedding: int = 64
) -> SequenceModel | StoryReader:
    """A cell's layer with a linear read-out, after the last step or at every step."""
    answers = _with_width(answers, "readout")
    if isinstance(inputs, Stories):
        return StoryReader(SequenceModel(layer(embedding), answers, inputs.alphabet), inputs.end)
    if isinstance(inputs, Tokens):  # vectors are read as they are
        return SequenceModel(layer(embedding), answers, inputs.alphabet)
    return SequenceModel(layer(_width(inputs, "readout")), answers)


@FAMILIES.register("raster")
def _raster(inputs: Inputs, answers: Answers, layer: MakeLayer) -> RasterModel:
    """A cell's layer that reads an image pixel by pixel, row by row, with a linear read-out."""
    images, answers = _images(inputs, answers, "raster")
    return RasterModel(SequenceModel(layer(images.channels), answers))


@FAMILIES.register("grid")
def _grid(
    inputs: Inputs,
    answers: Answers,
    *,
    unit: Literal["lstm", "tanh", "relu"] = "lstm",
    hidden: int = 16,
    layers: int = 1,
    directions: int = 4,
    blocks: str = "1x1",
    forget_bias: float = 0.0,
) -> GridModel:
    """A multidimensional LSTM or RNN of images, with a linear read-out where the scans end."""
    images, answers = _images(inputs, answers, "grid")
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*(/[1-9]\d*x[1-9]\d*)*", blocks):
        raise ConfigurationError(
            "blocks of model 'grid'",
            got=repr(blocks),
            expected="HEIGHTxWIDTH, or one for each layer with / between them: 1x1/2x2",
        )
    sides = [tuple(map(int, block.split("x"))) for block in blocks.split("/")]
    read = sides[0] if len(sides) == 1 else sides
    options: dict[str, Any] = {"directions": directions, "blocks": read}
    if unit == "lstm":
        grid = GridLSTM(images.channels, hidden, layers, forget_bias=forget_bias, **options)
    elif forget_bias:
        raise ConfigurationError("forget_bias of model 'grid'", got=unit, expected="unit=lstm")
    else:
        grid = GridRNN(images.channels, hidden, layers, nonlinearity=unit, **options)
    return GridModel(grid, answers)


@FAMILIES.register("residual")
def _residual(
    inputs: Inputs,
    answers: Answers,
    *,
    depth: int = 20,
    block: Literal["preactivation", "original"] = "preactivation",
    maps: MapKind = "linear",
    widths: str = "64",
    recompute: bool = False,
) -> ResidualNetwork:
    """A residual network of images: blocks of two layers and a shortcut (He et al. 2016)."""
    images, answers = _images(inputs, answers, "residual")
    return ResidualNetwork(
        images,
        answers,
        depth,
        kind=block,
        maps=maps,
        widths=_widths(widths, "residual"),
        recompute=recompute,
    )


@FAMILIES.register("plain")
def _plain(
    inputs: Inputs,
    answers: Answers,
    *,
    depth: int = 20,
    maps: MapKind = "linear",
    widths: str = "64",
    batch_norm: bool = True,
    init: Literal["he", "torch"] = "he",
    recompute: bool = False,
) -> ResidualNetwork:
    """The residual network of images without its shortcuts."""
    images, answers = _images(inputs, answers, "plain")
    return ResidualNetwork(
        images,
        answers,
        depth,
        kind="plain",
        maps=maps,
        widths=_widths(widths, "plain"),
        batch_norm=batch_norm,
        init=init,
        recompute=recompute,
    )


@FAMILIES.register("language-model")
def _language_model(
    inputs: Inputs,
    answers: Answers,
    layer: MakeLayer,
    *,
    embedding: int = 0,
    tied: bool = False,
    dropout: float = 0.0,
    cutoffs: str = "",
    uniform: float = 0.0,
) -> LanguageModel:
    """A cell's layer that reads symbols, with a softmax over the next one."""
    if not (isinstance(inputs, Tokens) and isinstance(answers, Likelihood)):
        raise ConfigurationError(
            "model 'language-model'",
            got=f"{inputs} and {answers}",
            expected="symbols, and their likelihood",
        )
    if embedding < 0:
        raise ConfigurationError(
            "embedding", got=embedding, expected="its width, or 0 for one-hot vectors"
        )
    if not re.fullmatch(r"(\d+(/\d+)*)?", cutoffs):
        raise ConfigurationError(
            "cutoffs", got=repr(cutoffs), expected="whole numbers with / between them: 2000/6000"
        )
    recurrent = layer(embedding or inputs.alphabet)
    model = LanguageModel(
        recurrent,
        inputs.alphabet if embedding else None,
        tied=tied,
        dropout=dropout,
        cutoffs=[int(part) for part in cutoffs.split("/") if part],
    )
    if recurrent.num_layers > 1:
        recurrent.dropout = float(dropout)
    _draw_uniform(model, uniform)
    return model


@FAMILIES.register("encoder-decoder")
def _encoder_decoder(
    inputs: Inputs,
    answers: Answers,
    layer: MakeLayer,
    *,
    context: Literal["initial", "every-step"] = "initial",
    embedding: int = 64,
    bidirectional: bool = False,
    reverse: bool = False,
    dropout: float = 0.0,
    tied: bool = False,
    uniform: float = 0.0,
) -> EncoderDecoder:
    """A layer encodes a source; a second one, from its states, gives the target's symbols."""
    kinds = _pairs(inputs, answers, "encoder-decoder")
    encoder = _encoder(kinds, layer, embedding, bidirectional, dropout)
    width = embedding
    if context == "every-step":
        width += layer(1).output_size if encoder is None else encoder.output_size
    decoder = layer(width, bidirectional=False)
    decoder.dropout = dropout
    model = EncoderDecoder(
        kinds, encoder, decoder, context=context, reverse=reverse, dropout=dropout, tied=tied
    )
    _draw_uniform(model, uniform)
    return model


@FAMILIES.register("attention")
def _attention(
    inputs: Inputs,
    answers: Answers,
    layer: MakeLayer,
    *,
    when: Literal["before", "after"] = "before",
    score: Literal["additive", "dot"] = "additive",
    coverage: bool = False,
    embedding: int = 64,
    bidirectional: bool = True,
    reverse: bool = False,
    dropout: float = 0.0,
    tied: bool = False,
    uniform: float = 0.0,
) -> EncoderDecoder:
    """An encoder and a decoder that attends to its outputs, before or after the decoder's cell."""
    kinds = _pairs(inputs, answers, "attention")
    encoder = _encoder(kinds, layer, embedding, bidirectional, dropout)
    if encoder is None:
        raise ConfigurationError(
            "model 'attention'", got=str(kinds.source), expected="a source with several positions"
        )
    decoder = layer(embedding + encoder.output_size * (when == "before"), bidirectional=False)
    widths = decoder.output_size, encoder.output_size
    if score == "dot" and coverage:
        raise ConfigurationError(
            "coverage of model 'attention'", got="score=dot", expected="score=additive"
        )
    if score == "additive":
        attention = AdditiveAttention(*widths, decoder.output_size, coverage=coverage)
    else:
        attention = DotAttention(*widths)
    if when == "after":
        decoder.dropout = dropout
    model = EncoderDecoder(
        kinds,
        encoder,
        decoder,
        context="attention" if when == "before" else "attention-after",
        attention=attention,
        reverse=reverse,
        dropout=dropout,
        tied=tied,
    )
    _draw_uniform(model, uniform)
    return model


def _draw_uniform(model: nn.Module, bound: float) -> None:
    """Draw all weights from [-bound, bound]; with 0, each part keeps its own start."""
    if not 0 <= bound < math.inf:
        raise ConfigurationError("uniform", got=bound, expected="a bound, or 0 for each part's own")
    if bound:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(-bound, bound)


def _pairs(inputs: Inputs, answers: Answers, family: str) -> Pairs:
    if not (isinstance(inputs, Pairs) and isinstance(answers, Likelihood)):
        raise ConfigurationError(
            f"model {family!r}",
            got=f"{inputs} and {answers}",
            expected="pairs of a source and a target, and the target's likelihood",
        )
    return inputs


def _encoder(
    kinds: Pairs, layer: MakeLayer, embedding: int, bidirectional: bool, dropout: float
) -> Recurrent | None:
    if isinstance(kinds.source, Vector):
        return None
    width = embedding if isinstance(kinds.source, Tokens) else kinds.source.width
    encoder = layer(width, bidirectional=bidirectional)
    encoder.dropout = dropout
    return encoder


@FAMILIES.register("latch-unit")
def _latch_unit(inputs: Inputs, answers: Answers, *, weight: float = 1.25) -> SequenceModel:
    """One tanh unit with a recurrent weight, its own answer (Bengio et al. 1994)."""
    layer = Recurrent(LatchUnitCell, _width(inputs, "latch-unit"), 1, weight=weight)
    model = SequenceModel(layer, _with_width(answers, "latch-unit"))
    with torch.no_grad():
        model.readout.weight.fill_(1.0)
        model.readout.bias.zero_()
    model.readout.requires_grad_(False)
    return model


def _images(inputs: Inputs, answers: Answers, family: str) -> tuple[Images, Classes]:
    if not (isinstance(inputs, Images) and isinstance(answers, Classes) and not answers.per_step):
        raise ConfigurationError(
            f"model {family!r}", got=f"{inputs} and {answers}", expected="images, and classes"
        )
    return inputs, answers


def _widths(text: str, family: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d*(/[1-9]\d*)*", text):
        raise ConfigurationError(
            f"widths of model {family!r}",
            got=repr(text),
            expected="a whole number, or one for each stage with / between them: 16/32",
        )
    return tuple(map(int, text.split("/")))


def _width(inputs: Inputs, family: str) -> int:
    if not isinstance(inputs, Vectors):
        raise ConfigurationError(f"model {family!r}", got=str(inputs), expected="vectors")
    return inputs.width


def _with_width(answers: Answers, family: str) -> Classes | Values | Bits:
    if not isinstance(answers, Classes | Values | Bits):
        raise ConfigurationError(
            f"model {family!r}", got=str(answers), expected="classes, values or bits"
        )
    return answers
