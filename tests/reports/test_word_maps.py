"""Maps with words at their rows and columns: labels are escaped, values are the measured ones."""

import pytest
import torch
from reports.measured import WEIGHTS, WORDS

import throughtime as tt
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.reports import word_maps
from throughtime.reports.plot import pictures


def test_words_are_labels_that_hold_no_html() -> None:
    figure = word_maps.alignment_map(WEIGHTS).figure
    assert figure.layout.xaxis.ticktext == ("le", "&lt;b&gt;chat&lt;/b&gt;", "\u21b5")
    assert figure.layout.yaxis.ticktext == ("the", "cat")
    heatmap = figure.data[0]
    assert torch.equal(torch.tensor(heatmap.z).double().float(), WEIGHTS.weights[0].float())
    assert heatmap.text[1][1] == "cat from &lt;b&gt;chat&lt;/b&gt;"
    other = word_maps.alignment_map(WEIGHTS, 1)
    assert other.figure.layout.xaxis.ticktext == ("\u2423",)
    assert other.figure.layout.yaxis.ticktext == ("&lt;eos&gt;",)
    assert other.figure.data[0].z.shape == (1, 1)


def test_titles_have_the_numbers() -> None:
    assert word_maps.alignment_map(WEIGHTS).title.startswith("1 of 2 target words read one")
    assert word_maps.influence_map(WORDS).title.startswith("3 steps between a source word")
    picture = word_maps.influence_by_steps({"the model": WORDS})
    assert picture.series[0].x == (1, 2, 3, 4)
    assert picture.series[0].y == pytest.approx((0.4, 0.2, 0.1, 0.0))


def test_each_pair_has_a_picture_of_its_own() -> None:
    assert [*pictures(WEIGHTS)] == ["pair 1", "pair 2"]
    assert [*pictures(WORDS)] == ["by distance", "pair 1", "pair 2"]
    assert tt.plot(WEIGHTS, pair=1).data[0].z.shape == (1, 1)
    with pytest.raises(ConfigurationError, match="pair: got 2, expected 0 to 1"):
        tt.plot(WEIGHTS, pair=2)
    with pytest.raises(UnknownNameError, match="by distance"):
        tt.plot(WORDS, "pair 3")
    both = tt.plot({"forward": WORDS, "reversed": WORDS})
    assert {trace.name for trace in both.data} == {"forward", "reversed"}


def test_hops_are_columns_and_sentences_rows() -> None:
    weights = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])
    told = ("anna went to the attic", "ben took the key", "anna went to the cellar & garden")
    found = word_maps.hop_map(told, ("hop 1", "hop 2"), weights, "where is anna?")
    assert found.title.startswith("“where is anna?” 1 of 2 hops read one sentence with more than")
    (heatmap,) = found.figure.data
    assert torch.allclose(torch.tensor(heatmap.z), weights.T)
    assert (heatmap.zmin, heatmap.zmax) == (0.0, 1.0)
    assert list(found.figure.layout.xaxis.ticktext) == ["hop 1", "hop 2"]
    shown = list(found.figure.layout.yaxis.ticktext)
    assert shown == [
        "anna went to the attic",
        "ben took the key",
        "anna went to the cellar &amp; garden",
    ]
