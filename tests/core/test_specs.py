"""Lists of models, registry texts and folder names."""

import pytest

from throughtime.core.errors import ConfigurationError
from throughtime.core.registry import slug, spec_text, split_models
from throughtime.models import MODELS


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("rnn", ("rnn",)),
        ("rnn,lstm", ("rnn", "lstm")),
        (" rnn , lstm ,", ("rnn", "lstm")),
        ("skip-rnn:lag=21,hidden=64", ("skip-rnn:lag=21,hidden=64",)),
        ("rnn,skip-rnn:lag=21, hidden=64,lstm", ("rnn", "skip-rnn:lag=21,hidden=64", "lstm")),
        ("lstm:hidden=8,gru:hidden=9", ("lstm:hidden=8", "gru:hidden=9")),
        ("lstm:hidden=8,layers=2,gru,rnn:init=x", ("lstm:hidden=8,layers=2", "gru", "rnn:init=x")),
    ],
)
def test_split(text: str, models: tuple[str, ...]) -> None:
    assert split_models(text) == models


@pytest.mark.parametrize("text", ["hidden=64", "rnn,hidden=64", "rnn,lstm,lag=2"])
def test_option_without_a_model(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"without a model.*Write a colon between"):
        split_models(text)


@pytest.mark.parametrize("text", ["", " , "])
def test_no_model(text: str) -> None:
    with pytest.raises(ConfigurationError, match="got none, expected names with commas"):
        split_models(text)


@pytest.mark.parametrize("name", list(MODELS))
def test_text_and_parse_are_inverse(name: str) -> None:
    options = MODELS.options(name)
    assert MODELS.parse(spec_text(name, options)) == (name, options)


@pytest.mark.parametrize(
    ("spec", "folder"),
    [
        ("rnn", "rnn"),
        ("skip-rnn:hidden=64,lag=21", "skip-rnn-hidden-64-lag-21"),
        ("irnn:scale=-0.5", "irnn-scale--0.5"),
        ("mnist:data_dir=../../x", "mnist-data_dir-..-..-x"),
        ("..", ""),
    ],
)
def test_folder_names_stay_below(spec: str, folder: str) -> None:
    assert slug(spec) == folder
