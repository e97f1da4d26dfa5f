from typing import Literal

import pytest

from throughtime import errors
from throughtime.core.registry import Registry


@pytest.fixture
def registry():
    made = Registry[dict]("model")

    @made.register("lstm")
    def lstm(
        width: int = 1,
        *,
        hidden: int = 64,
        rate: float = 0.5,
        both: bool = False,
        start: Literal["torch", "identity"] = "torch",
        chrono: int | None = None,
    ) -> dict:
        """Long short-term memory.

        More.
        """
        return dict(locals())

    return made


def test_builds_from_text(registry):
    got = registry.build("lstm: hidden=3, rate=1e-2,both=true,start=identity,chrono=9", width=2)
    assert got == {
        "width": 2,
        "hidden": 3,
        "rate": 0.01,
        "both": True,
        "start": "identity",
        "chrono": 9,
    }
    assert registry.build("lstm:chrono=none")["chrono"] is None
    assert registry.build("lstm")["hidden"] == 64


def test_describes(registry):
    assert list(registry) == ["lstm"]
    assert registry.describe("lstm") == "Long short-term memory."
    assert registry.options("lstm")["hidden"] == 64
    assert "width" not in registry.options("lstm")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("lstn", errors.UnknownNameError, "unknown model: got 'lstn'.*Did you mean 'lstm'"),
        ("lstm:hiden=3", errors.UnknownNameError, "option of model 'lstm'.*Did you mean 'hidden'"),
        ("lstm:width=3", errors.UnknownNameError, "unknown option"),
        ("lstm:hidden=three", errors.ConfigurationError, "got 'three', expected a whole number"),
        ("lstm:hidden=3.5", errors.ConfigurationError, "got '3.5', expected a whole number"),
        ("lstm:rate=fast", errors.ConfigurationError, "got 'fast', expected a number"),
        ("lstm:both=yes", errors.ConfigurationError, "got 'yes', expected true or false"),
        ("lstm:start=eye", errors.ConfigurationError, "got 'eye', expected one of torch, identity"),
        ("lstm:hidden", errors.ConfigurationError, "got 'hidden', expected hidden=VALUE"),
        ("lstm:hidden=1,hidden=2", errors.ConfigurationError, "got hidden twice"),
    ],
)
def test_bad_texts(registry, text, error, words):
    with pytest.raises(error, match=words):
        registry.build(text)


def test_a_name_is_registered_once(registry):
    with pytest.raises(errors.ConfigurationError, match="registered already"):
        registry.register("lstm")(dict)
