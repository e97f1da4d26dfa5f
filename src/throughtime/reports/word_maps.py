"""Pictures of pairs of sentences: a map with a word at each row and column, and means."""

import html
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.core.escaping import escaped
from throughtime.instruments.alignment import Alignment
from throughtime.instruments.word_influence import WordInfluence
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import points, steps
from throughtime.reports.numbers import count, number
from throughtime.reports.planes import plane
from throughtime.results.diagnosis import Picture

MOST_PAIRS = 3
"""Largest number of pairs on a page."""

_LONGEST = 20  # characters of a word beside a map
_MOST_WORDS = 32  # beside a map, that can be read
_BLANKS = str.maketrans({" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5"})  # as keyboards show them


def influence_by_steps(found: Mapping[str, WordInfluence]) -> Picture:
    """Show the mean gradient at a source word by the recurrent steps to the target word."""
    name, first = next(iter(found.items()))
    of = f" of {name}" if len(found) > 1 else ""
    distances, means = first.by_steps()
    near, far = (f"{number(float(means[k]))} at {steps(int(distances[k]))}" for k in (0, -1))
    return Picture(
        title=f"The gradient of a target word's loss at a source word{of} is {near}, {far}.",
        caption="The norm of ∂L/∂e, of the loss of one target word by the vector of one source "
        "word, by the recurrent steps between the two; mean over all words and pairs. Paths "
        "through an attention are shorter, and are contained in the norms.",
        x_label="recurrent steps between source word and target word",
        y_label="‖∂L/∂e‖",
        series=tuple(points(label, *each.by_steps()) for label, each in found.items()),
        logarithmic=True,
    )


def influence_map(found: WordInfluence, pair: int = 0) -> Drawing:
    """Draw log10 of the gradient of each target word's loss at each source word of one pair.

    Arguments:
        found: The measured gradients.
        pair: Number of the pair, from 0.

    Raises:
        ConfigurationError: There is no such pair.
    """
    source, target = _words(found, pair)
    between = found.steps[pair].diagonal()
    between = between[between >= 0]
    norms = found.norms[pair, : len(target), : len(source)]
    figure = _map(norms.log10(), source, target, "10<sup>x</sup>")
    least, most = int(between.min()), int(between.max())
    span = steps(most) if least == most else f"{count(least)} to {steps(most)}"
    title = f"{span} between a source word and the target word of the same number."
    if most == 0:  # a text: each symbol is read one step before the next one is due
        title = f"The gradient of {count(len(target))} symbols at those before them."
    return Drawing(
        title=title,
        caption="log10 of ‖∂L/∂e‖: the loss of each target word by the vector of each source word. "
        "Blank: exactly zero.",
        labels=(),
        figure=figure,
    )


def alignment_map(found: Alignment, pair: int = 0) -> Drawing:
    """Draw the weights of an attention over the source, at each target word of one pair.

    Arguments:
        found: The weights.
        pair: Number of the pair, from 0.

    Raises:
        ConfigurationError: There is no such pair.
    """
    source, target = _words(found, pair)
    return attention_map(source, target, found.weights[pair, : len(target), : len(source)])


def attention_map(
    source: Sequence[str], target: Sequence[str], weights: Float[Tensor, "target source"]
) -> Drawing:
    """Draw the weights of an attention over some words.

    Arguments:
        source: Words of the source.
        target: Words of the target.
        weights: Weights in [0, 1].
    """
    source, target = source[:_MOST_WORDS], target[:_MOST_WORDS]
    weights = weights[: len(target), : len(source)]
    most = int((weights.max(1).values > 0.5).sum())
    figure = _map(weights, source, target, "weight", (0.0, 1.0))
    return Drawing(
        title=f"{count(most)} of {count(len(target))} target words read one source word with more "
        "than half of the attention.",
        caption="Weights of the attention over the words of the source, where each word of the "
        "target is predicted; those of a row sum to 1.",
        labels=(),
        figure=figure,
    )


def hop_map(
    sentences: Sequence[str],
    hops: Sequence[str],
    weights: Float[Tensor, "hop sentence"],
    question: str,
) -> Drawing:
    """Draw the weights of the sentences of a story in each hop of a network.

    Arguments:
        sentences: Sentences of the story.
        hops: Names of the hops.
        weights: Weights in [0, 1].
        question: Question about the story.
    """
    most = int((weights.max(1).values > 0.5).sum())
    figure = _map(weights.T, hops, sentences, "weight", (0.0, 1.0), _sentence)
    figure.update_xaxes(title_text="", side="top")
    figure.update_yaxes(title_text="")
    return Drawing(
        title=f"“{question}” {count(most)} of {count(len(hops))} hops read one sentence with more "
        "than half of the attention.",
        caption="Weights of the attention over the sentences before the question, in each hop.",
        labels=(),
        figure=figure,
    )


def _words(found: WordInfluence | Alignment, pair: int) -> tuple[Sequence[str], Sequence[str]]:
    count = len(found.source_words)
    if not 0 <= pair < count:
        raise ConfigurationError("pair", got=pair, expected=f"0 to {count - 1}")
    target = [word for word in found.target_words[pair] if word]
    return found.source_words[pair][:_MOST_WORDS], target[:_MOST_WORDS]


def _map(
    values: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    unit: str,
    ends: tuple[float, float] | None = None,
    label: Callable[[str], str] | None = None,
) -> go.Figure:
    shown = torch.where(values.isfinite(), values, torch.nan)
    label = _label if label is None else label
    rows, columns = [*map(label, target)], [*map(label, source)]
    heatmap = go.Heatmap(
        z=np.asarray(shown, dtype=np.float32),
        x=[*range(len(columns))],
        y=[*range(len(rows))],
        zmin=None if ends is None else ends[0],
        zmax=None if ends is None else ends[1],
        colorscale="Cividis",
        colorbar={"thickness": 12, "title": {"text": unit}},
        text=[[f"{row} from {column}" for column in columns] for row in rows],
        hovertemplate="%{text}: %{z:.3g}<extra></extra>",
        meta={"series": 0, "role": "map"},
    )
    figure = plane("source", "target", heatmap, grid=False)
    for update, words in ((figure.update_xaxes, columns), (figure.update_yaxes, rows)):
        update(tickvals=[*range(len(words))], ticktext=words)
    figure.update_yaxes(autorange="reversed")
    return figure


def _label(word: str) -> str:
    """Return a word as a label of an axis, on which plotly reads HTML."""
    return _short(word.translate(_BLANKS), _LONGEST)


def _sentence(text: str) -> str:
    """Return a sentence as a label, whose blanks are blanks."""
    return _short(text, 2 * _LONGEST)


def _short(text: str, longest: int) -> str:
    short = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return html.escape(escaped(short), quote=False)
