"""A variant: another way of training the same models, by the fields of a run that it sets."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.training import RunConfig

_OF_THE_COMPARISON = ("task", "model", "seed", "device", "threads", "data_dir")
VARIABLE = tuple(f.name for f in dataclasses.fields(RunConfig) if f.name not in _OF_THE_COMPARISON)
"""The fields of `RunConfig` that a comparison leaves to its settings and variants."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A name, and fields of `RunConfig`.

    Arguments:
        name: name in the table.
        settings: values by field: {"clip_norm": 1.0, "learner": "rtrl"}.

    Raises:
        UnknownNameError: no such field, or one that the comparison itself sets.
        ConfigurationError: no name.
    """

    name: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigurationError("variant", got="no name", expected="NAME FIELD=VALUE ...")
        for field in self.settings:
            if field not in VARIABLE:
                raise UnknownNameError(f"field of variant {self.name!r}", field, VARIABLE)

    def text(self) -> str:
        """Return the text that `parse_variant` takes.

        Example:
            >>> Variant("clipped", {"clip_norm": 1.0}).text()
            'clipped clip_norm=1.0'
        """
        words = [
            f"{field}={value if isinstance(value, str) else json.dumps(value)}"
            for field, value in self.settings.items()
        ]
        return shlex.join([self.name, *words])


def parse_variant(text: str) -> Variant:
    """A variant from NAME FIELD=VALUE ..., with values as JSON has them or else texts.

    Arguments:
        text: words between spaces, quoted as for a shell.

    Raises:
        ConfigurationError: a word that is no FIELD=VALUE, a field twice, or no name.
        UnknownNameError: no such field.

    Example:
        >>> parse_variant("windowed learner=truncated-bptt:window=20 clip_norm=null").settings
        {'learner': 'truncated-bptt:window=20', 'clip_norm': None}
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError("variant", got=repr(text), expected=str(error)) from error
    settings: dict[str, Any] = {}
    for word in words[1:]:
        field, equals, value = word.partition("=")
        if not equals or field in settings:
            raise ConfigurationError(
                f"variant {text!r}", got=repr(word), expected="FIELD=VALUE, each field once"
            )
        try:
            settings[field] = json.loads(value)
        except json.JSONDecodeError:
            settings[field] = value
    return Variant(words[0] if words else "", settings)


def learner_variants(learners: Iterable[str]) -> tuple[Variant, ...]:
    """A variant for each way of learning, named as it is.

    Arguments:
        learners: registry texts.
    """
    return tuple(Variant(learner, {"learner": learner}) for learner in learners)
