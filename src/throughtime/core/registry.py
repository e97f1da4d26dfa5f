"""Things built by name from a registry text: `skip-rnn:lag=21,hidden=64`."""

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from throughtime.core.errors import ConfigurationError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from throughtime.core.cell import Cell
import re

Built = TypeVar("Built")
Entered = TypeVar("Entered", bound=Callable[..., object])
Parameters: TypeAlias = Mapping[str, inspect.Parameter]


class Registry(Generic[Built]):
    """Builders by name. A builder's keyword-only arguments with defaults are its options.

    A builder is a function or a class. Its options are annotated with `int`, `float`, `bool`,
    `str`, a `Literal` of strings, or one of these `| None`; keyword-only arguments of other types
    are no options. The first line of its docstring describes it.

    Arguments:
        kind: name of what is built, for error messages: "model", "task".

    Example:
        >>> shapes = Registry[str]("shape")
        >>> @shapes.register("square")
        ... def square(*, size: int = 2) -> str:
        ...     "A square."
        ...     return "#" * size
        >>> shapes.build("square:size=3")
        '###'
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._builders: dict[str, Callable[..., Built]] = {}

    def register(self, name: str) -> Callable[[Entered], Entered]:
        """Decorator: enter a builder under a name; ConfigurationError if the name is taken."""

        def enter(builder: Entered) -> Entered:
            if name in self._builders:
                raise ConfigurationError(
                    f"{self.kind} {name!r} is registered already", fix="Choose another name."
                )
            self._builders[name] = typing.cast(Callable[..., Built], builder)
            return builder

        return enter

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._builders))

    def __contains__(self, name: str) -> bool:
        return name in self._builders

    def __getitem__(self, name: str) -> Callable[..., Built]:
        if name not in self._builders:
            raise UnknownNameError(self.kind, name, self._builders)
        return self._builders[name]

    def describe(self, name: str) -> str:
        """Return the first line of the builder's docstring."""
        return (inspect.getdoc(self[name]) or "").partition("\n")[0]

    def options(self, name: str) -> dict[str, object]:
        """Return the options of a builder with their defaults."""
        return {p.name: p.default for p in option_parameters(self[name]).values()}

    def parse(self, spec: str) -> tuple[str, dict[str, object]]:
        """Split `name:option=value,...` into a known name and typed options.

        Raises:
            UnknownNameError: no such name or option.
            ConfigurationError: a value is not of the option's type, or an option is given twice.
        """
        name, texts = split_spec(self.kind, spec)
        return name, read_options(f"{self.kind} {name!r}", texts, option_parameters(self[name]))

    def build(self, spec: str, /, **arguments: object) -> Built:
        """Build what `spec` names; `arguments` go to the builder beside the options of the text."""
        name, options = self.parse(spec)
        return self[name](**arguments, **options)


CELLS: "Registry[Cell]" = Registry("cell")
"""All cells by name. A builder takes input size, hidden size and its options."""


def option_parameters(builder: Callable[..., object]) -> Parameters:
    """Return the keyword-only parameters of a builder that a text can give."""
    parameters = inspect.signature(builder).parameters
    return {
        key: p
        for key, p in parameters.items()
        if p.kind is p.KEYWORD_ONLY and p.default is not p.empty and _is_readable(p.annotation)
    }


def split_spec(kind: str, spec: str) -> tuple[str, dict[str, str]]:
    """Split `name:option=value,...` into a name and the texts of its options.

    Raises:
        ConfigurationError: an option has no value, or is given twice.
    """
    name, _, rest = spec.partition(":")
    texts: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in rest.split(","))):
        key, equals, text = (p.strip() for p in part.partition("="))
        key = key.replace("-", "_")
        if not equals:
            raise ConfigurationError(f"{kind} {spec!r}", got=repr(part), expected=f"{key}=VALUE")
        if key in texts:
            raise ConfigurationError(
                f"{kind} {spec!r}", got=f"{key} twice", expected="each option once"
            )
        texts[key] = text
    return name.strip(), texts


def read_options(
    subject: str, texts: Mapping[str, str], parameters: Parameters
) -> dict[str, object]:
    """Return the values of options, in their parameters' types.

    Raises:
        UnknownNameError: no such option.
        ConfigurationError: a value is not of the option's type.
    """
    for key in texts:
        if key not in parameters:
            raise UnknownNameError(f"option of {subject}", key, parameters)
    return {
        key: _convert(text, parameters[key].annotation, f"{key} of {subject}")
        for key, text in texts.items()
    }


def _is_readable(annotation: object) -> bool:
    members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    kinds = [m for m in members if m is not type(None)]
    return len(kinds) == 1 and (
        kinds[0] in (int, float, bool, str) or typing.get_origin(kinds[0]) is typing.Literal
    )


def _is_union(annotation: object) -> bool:
    return isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union


def _convert(text: str, annotation: object, subject: str) -> object:
    if _is_union(annotation):
        members = typing.get_args(annotation)
        if text.lower() == "none" and type(None) in members:
            return None
        (annotation,) = (m for m in members if m is not type(None))
    if typing.get_origin(annotation) is typing.Literal:
        choices = typing.get_args(annotation)
        if text not in choices:
            raise ConfigurationError(
                subject,
                got=repr(text),
                expected=f"one of {', '.join(choices)}",
                fix=suggestion(text, choices),
            )
        return text
    if annotation is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigurationError(subject, got=repr(text), expected="true or false")
        return text.lower() == "true"
    if annotation is int or annotation is float:
        try:
            return annotation(text)
        except ValueError:
            expected = "a whole number" if annotation is int else "a number"
            raise ConfigurationError(subject, got=repr(text), expected=expected) from None
    return text


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
