"""Things built by name from a short text: `skip-rnn:lag=21,hidden=64`."""

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from throughtime.core.errors import ConfigurationError, UnknownNameError, suggestion

Built = TypeVar("Built")


class Registry(Generic[Built]):
    """Builders by name. A builder's keyword-only arguments with defaults are its options.

    A builder is a function whose keyword-only arguments are annotated with `int`, `float`, `bool`,
    `str`, a `Literal` of strings, or one of these `| None`; its docstring's first line tells it.

    Arguments:
        kind: what is built, for error messages: "model", "task".

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

    def register(self, name: str) -> Callable[[Callable[..., Built]], Callable[..., Built]]:
        """Decorator: enter a builder under a name; ConfigurationError if the name is taken."""

        def enter(builder: Callable[..., Built]) -> Callable[..., Built]:
            if name in self._builders:
                raise ConfigurationError(
                    f"{self.kind} {name!r} is registered already", fix="Choose another name."
                )
            self._builders[name] = builder
            return builder

        return enter

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._builders))

    def __contains__(self, name: str) -> bool:
        return name in self._builders

    def describe(self, name: str) -> str:
        """The first line of the builder's docstring."""
        return (inspect.getdoc(self._builder(name)) or "").partition("\n")[0]

    def options(self, name: str) -> dict[str, object]:
        """The options of a builder with their defaults."""
        return {p.name: p.default for p in self._parameters(name).values()}

    def parse(self, spec: str) -> tuple[str, dict[str, object]]:
        """Split `name:option=value,...` into a known name and typed options.

        Raises:
            UnknownNameError: no such name or option.
            ConfigurationError: a value is not of the option's type, or an option is given twice.
        """
        name, _, rest = spec.partition(":")
        name = name.strip()
        parameters = self._parameters(name)
        options: dict[str, object] = {}
        for part in filter(None, (p.strip() for p in rest.split(","))):
            key, equals, text = (p.strip() for p in part.partition("="))
            key = key.replace("-", "_")
            if key not in parameters:
                raise UnknownNameError(f"option of {self.kind} {name!r}", key, parameters)
            if not equals:
                raise ConfigurationError(
                    f"{self.kind} {spec!r}", got=repr(part), expected=f"{key}=VALUE"
                )
            if key in options:
                raise ConfigurationError(
                    f"{self.kind} {spec!r}", got=f"{key} twice", expected="each option once"
                )
            options[key] = _convert(
                text, parameters[key].annotation, f"{key} of {self.kind} {name!r}"
            )
        return name, options

    def build(self, spec: str, /, **arguments: object) -> Built:
        """Build what `spec` names; `arguments` go to the builder beside the options of the text."""
        name, options = self.parse(spec)
        return self._builder(name)(**arguments, **options)

    def _builder(self, name: str) -> Callable[..., Built]:
        if name not in self._builders:
            raise UnknownNameError(self.kind, name, self._builders)
        return self._builders[name]

    def _parameters(self, name: str) -> dict[str, inspect.Parameter]:
        parameters = inspect.signature(self._builder(name)).parameters
        return {
            key: p
            for key, p in parameters.items()
            if p.kind is p.KEYWORD_ONLY and p.default is not p.empty
        }


def _convert(text: str, annotation: object, subject: str) -> object:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
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
