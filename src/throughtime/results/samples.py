"""Outputs of a trained model, for its report."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TextSample:
    """A text that a model gave.

    Attributes:
        source: Text that the model read.
        output: Text that it gave.
        reference: Right answer; "" where there is none.
    """

    source: str
    output: str
    reference: str = ""


@dataclass(frozen=True)
class AttentionSample:
    """The weights of an attention for one output.

    Attributes:
        source: Words of the source.
        target: Words of the output.
        weights: Weights in [0, 1], a row for each word of the output.
        question: Question about a story, whose sentences are the source, and hops of a network the
            target; "" where the source is one sentence.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    question: str = ""


@dataclass(frozen=True)
class ImageSample:
    """A sheet of images.

    Attributes:
        title: Description of the sheet.
        png: PNG file in base64.
    """

    title: str
    png: str


@dataclass(frozen=True)
class DrawingSample:
    """A picture of sequences of frames: pen strokes, piano rolls or curves.

    Attributes:
        title: Description of the picture.
        svg: SVG file.
    """

    title: str
    svg: str


@dataclass(frozen=True)
class MemorySample:
    """The accesses of a memory of words in one sequence.

    Attributes:
        read: Weights in [0, 1] with which each word is read, the largest of all heads; a row for
            each step.
        written: Weights with which each word is written, likewise.
    """

    read: tuple[tuple[float, ...], ...]
    written: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Samples:
    """Outputs of a trained model.

    Attributes:
        texts: Texts.
        attention: Weights of the attention for some of them.
        images: Sheets of images.
        drawings: Pictures of sequences of frames.
        memories: Accesses of the memories of a model, for one sequence.
    """

    texts: tuple[TextSample, ...] = ()
    attention: tuple[AttentionSample, ...] = ()
    images: tuple[ImageSample, ...] = ()
    drawings: tuple[DrawingSample, ...] = ()
    memories: tuple[MemorySample, ...] = ()
