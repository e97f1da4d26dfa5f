"""Pictures of the accesses of a memory: maps of words by step, and the life of written items."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.instruments.memory_accesses import MemoryAccesses
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import by_index, steps
from throughtime.reports.numbers import count
from throughtime.reports.planes import map_of_colours
from throughtime.results.diagnosis import Picture, Series


def reads(found: MemoryAccesses, sequence: int = 0) -> Drawing:
    """Draw the weights with which each word is read, by step; the largest of all heads.

    Arguments:
        found: The accesses.
        sequence: Number of the sequence, from 0.

    Raises:
        ConfigurationError: There is no such sequence.
    """
    return access_map("read", _of_sequence(found.read, sequence))


def writes(found: MemoryAccesses, sequence: int = 0) -> Drawing:
    """Draw the weights with which each word is written, by step; the largest of all heads.

    Arguments:
        found: The accesses.
        sequence: Number of the sequence, from 0.

    Raises:
        ConfigurationError: There is no such sequence.
    """
    return access_map("written", _of_sequence(found.written, sequence))


def _of_sequence(
    weights: Float[Tensor, "sequences time heads words"], sequence: int
) -> Float[Tensor, "time words"]:
    if not 0 <= sequence < len(weights):
        raise ConfigurationError("sequence", got=sequence, expected=f"0 to {len(weights) - 1}")
    return weights[sequence].amax(1)


def access_map(kind: str, weights: Float[Tensor, "time words"]) -> Drawing:
    """Draw weights of words by step.

    Arguments:
        kind: Name of the access: "read" or "written".
        weights: Weights in [0, 1]; steps beyond the end of a sequence, which are NaN, are left out.
    """
    weights = weights[~weights.isnan().any(1)]
    sharp = int((weights.amax(1) > 0.5).sum()) if len(weights) else 0
    used = int((weights.amax(0) > 0.5).sum()) if len(weights) else 0
    figure = map_of_colours(
        weights.T,
        ("step", "word"),
        across=(0, len(weights) - 1),
        up=(0, weights.shape[1] - 1),
        unit="weight",
        ends=(0.0, 1.0),
    )
    figure.update_yaxes(autorange="reversed")
    return Drawing(
        title=f"One word is {kind} with more than half of the weight at {count(sharp)} of "
        f"{steps(len(weights))}; {count(used)} of {count(weights.shape[1])} words are, at some.",
        caption=f"Weights with which the words are {kind}, the largest of all heads, in one "
        "sequence. Where there are more words or steps than a screen can show, a cell is the "
        "largest of its words and steps.",
        labels=(),
        figure=figure,
    )


def horizon(measured: Mapping[str, MemoryAccesses]) -> Picture:
    """Show the similarity of written items and the nearest word, by the steps since the write."""
    name, first = next(iter(measured.items()))
    items, lost = len(first.step), int((first.overwritten >= 0).sum())
    unread = int(((first.overwritten >= 0) & (first.fetched < 0.5)).sum())
    title = f"{name} has written no item."
    if items:
        title = (
            f"Half of the items of {name} stay retrievable for {steps(first.horizon())}. "
            f"Overwritten: {count(lost)} of {count(items)} items, {count(unread)} of them before a "
            "head read them with half of its weight."
        )
    return Picture(
        title=title,
        caption="The cosine of a written item and the word that is nearest to it after so many "
        "further steps. Line: median; band: from 10 to 90 % of the items. The items of a word "
        f"that changes so far that the cosine is below {first.alike:g} are overwritten.",
        x_label="steps since the write",
        y_label="cosine of the item and the nearest word",
        series=tuple(_curve(k, each) for k, each in measured.items()),
        level=(first.alike, "alike"),
    )


def _curve(name: str, found: MemoryAccesses) -> Series:
    low, middle, high = found.quantiles
    return by_index(name, middle, low=low, high=high)
