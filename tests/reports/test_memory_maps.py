"""Pictures of the accesses of a memory."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from reports.measured import ACCESSES

import throughtime as tt
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.reports import memory_maps


def values(figure: Any) -> np.ndarray:
    """Return the values of a map."""
    return np.asarray(figure.data[0].z)


def test_a_map_has_the_largest_weight_of_the_heads() -> None:
    drawing = memory_maps.reads(ACCESSES)
    z = values(drawing.figure)
    assert z == pytest.approx(ACCESSES.read[0, :, 0].T.numpy())
    assert drawing.title == (
        "One word is read with more than half of the weight at 2 of 3 steps; 2 of 3 words are, "
        "at some."
    )
    weights = torch.tensor([[0.1, 0.9, 0.0], [0.6, 0.2, 0.2]]).double()
    written = dataclasses.replace(ACCESSES, written=weights.expand(2, 3, 2, 3))
    z = values(memory_maps.writes(written).figure)
    assert z[:, 0] == pytest.approx([0.6, 0.9, 0.2])


def test_steps_beyond_the_end_of_a_sequence_are_left_out() -> None:
    figure = tt.plot(ACCESSES, "reads", sequence=1)
    assert values(figure).shape == (3, 1)


def test_the_horizon_is_the_median_of_the_items() -> None:
    picture = memory_maps.horizon({"sam": ACCESSES})
    assert picture.title == (
        "Half of the items of sam stay retrievable for 1 step. Overwritten: 1 of 3 items, 1 of "
        "them before a head read them with half of its weight."
    )
    assert picture.series[0].y == pytest.approx([1.0, 0.875, 0.3])
    none = {
        name: getattr(ACCESSES, name)[:0]
        for name in ("sequence", "step", "head", "word", "overwritten", "fetched", "before")
    }
    empty = dataclasses.replace(ACCESSES, similarity=ACCESSES.similarity[:0], **none)
    assert memory_maps.horizon({"sam": empty}).title == "sam has written no item."


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sequence: got 2, expected 0 to 1"):
        tt.plot(ACCESSES, "writes", sequence=2)
    with pytest.raises(UnknownNameError, match="reads"):
        tt.plot(ACCESSES, "gates")
