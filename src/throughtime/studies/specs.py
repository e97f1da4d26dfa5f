"""Registry texts, `skip-rnn:lag=21,hidden=64`: several taken apart, one written."""

import re
from collections.abc import Mapping

from throughtime.core.errors import ConfigurationError


def split_models(text: str) -> tuple[str, ...]:
    """The models of a list with commas; an option after a comma belongs to the model before it.

    Example:
        >>> split_models("rnn,skip-rnn:lag=21,hidden=64,lstm")
        ('rnn', 'skip-rnn:lag=21,hidden=64', 'lstm')

    Raises:
        ConfigurationError: the list is empty, or an option has no model before it.
    """
    models: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if "=" in part and ":" not in part.partition("=")[0]:
            if not models or ":" not in models[-1]:
                raise ConfigurationError(
                    f"models {text!r}",
                    got=f"the option {part!r} without a model",
                    expected="MODEL,MODEL:OPTION=VALUE,...",
                    fix="Write a colon between a model and its first option.",
                )
            models[-1] += f",{part}"
        else:
            models.append(part)
    if not models:
        raise ConfigurationError(
            f"models {text!r}", got="none", expected="names with commas between them"
        )
    return tuple(models)


def spec_text(name: str, options: Mapping[str, object]) -> str:
    """Return a registry text, with the options in alphabetical order.

    Example:
        >>> spec_text("skip-rnn", {"lag": 21, "hidden": 64})
        'skip-rnn:hidden=64,lag=21'
    """
    texts = [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in sorted(options.items())
    ]
    return f"{name}:{','.join(texts)}" if texts else name


def slug(spec: str) -> str:
    """The name of a folder for a registry text.

    Example:
        >>> slug("skip-rnn:hidden=64,lag=21")
        'skip-rnn-hidden-64-lag-21'
    """
    return re.sub(r"[^a-z0-9._+-]+", "-", spec.lower()).strip("-.")
