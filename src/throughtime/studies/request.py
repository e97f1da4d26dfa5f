"""The request for a comparison, its variants, and its command line."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
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
    """A variant for each way of learning, named as it is."""
    return tuple(Variant(learner, {"learner": learner}) for learner in learners)


@dataclasses.dataclass(frozen=True)
class CompareRequest:
    """Models on one task, several seeds each.

    Attributes:
        task: registry text: "digits", "adding:form=unit".
        models: registry texts; none for the task's usual ones.
        variants: ways of training each model; none for the usual one alone.
        length: the task's option of that name, or None for its default.
        seeds: number of seeds; they are 0, 1, ...
        steps, batch_size, learning_rate: settings of every run; None for the usual
            ones of task and model.
        device: "cpu", "cuda" or "cuda:N".
        jobs: runs at a time, each with an equal share of the cores; None for one a core, or one at
            a time on a GPU.
        match_parameters: set the hidden size of each model so that it has as many parameters as
            the first, as nearly as possible.
        data_dir: local folder for data files.
        settings: further fields of `RunConfig` for every run, by name.

    Raises:
        ConfigurationError: a count is below 1.
        UnknownNameError: a setting is no field of `RunConfig`, or has a place of its own above.
    """

    task: str
    models: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    length: int | None = None
    seeds: int = 3
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    device: str = "cpu"
    jobs: int | None = None
    match_parameters: bool = False
    data_dir: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any], hash=False)

    def __post_init__(self) -> None:
        for name in ("length", "seeds", "steps", "batch_size", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(
                    f"{name} of the comparison", got=value, expected="at least 1"
                )
        own = {field.name for field in dataclasses.fields(self)}
        known = [name for name in VARIABLE if name not in own]
        for name in self.settings:
            if name not in known:
                raise UnknownNameError("setting of the comparison", name, known)

    def command(self, out: Path) -> str:
        """Return the command line of the request, with the results in `out`, quoted for a shell.

        Example:
            >>> CompareRequest("digits", ("rnn", "lstm")).command(Path("runs/a"))
            'throughtime compare digits --models rnn,lstm --seeds 3 --out runs/a'
        """
        words = ["throughtime", "compare", self.task]
        if self.models:
            words += ["--models", ",".join(self.models)]
        if self.variants:
            learners = [variant.name for variant in self.variants]
            if self.variants == learner_variants(learners):
                words += ["--learner", ",".join(learners)]
            else:
                words += ["--variants", *(variant.text() for variant in self.variants)]
        for name in ("length", "seeds", "steps", "batch_size", "learning_rate"):
            value = getattr(self, name)
            if value is not None:
                words += [f"--{name.replace('_', '-')}", str(value)]
        for name, value in self.settings.items():
            words += _option_words(name, value)
        if self.device != "cpu":
            words += ["--device", self.device]
        if self.jobs is not None:
            words += ["--jobs", str(self.jobs)]
        if self.match_parameters:
            words += ["--match-parameters"]
        if self.data_dir is not None:
            words += ["--data-dir", self.data_dir]
        return shlex.join([*words, "--out", str(out)])


def _option_words(name: str, value: object) -> list[str]:
    """The words that give a field of RunConfig on the command line."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    if isinstance(value, Mapping):
        given = (
            f"{key}={item if isinstance(item, str) else json.dumps(item)}"
            for key, item in value.items()
        )
        return [f"--{dashed}", *given]
    return [f"--{dashed}", "none" if value is None else str(value)]
