"""The options of a sub-command: fields of a dataclass, read from words, shown as help.

Nothing here imports torch, so that help comes at once.
"""

import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from throughtime.core.errors import ConfigurationError, suggestion

Arguments = TypeVar("Arguments")
Reader = Callable[[str], object]

_WIDEST = 100
_LEFT_COLUMN = 28


@dataclasses.dataclass(frozen=True)
class Option:
    """The declaration of one option.

    Attributes:
        help: one or two sentences.
        metavar: the name of its value in the help.
        read: turns a word into its value; raises ConfigurationError with the expected form.
        kind: "position" for a word without a name, "value", "values" for one or several words,
            "flag" for a name alone, "switch" for a name that --no- turns off.
        usual: the value if it is left out, in words; empty to say nothing.
        group: the heading in the help.
    """

    help: str
    metavar: str
    read: Reader
    kind: Literal["position", "value", "values", "flag", "switch"]
    usual: str
    group: str


def text(word: str) -> str:
    """A word as it is."""
    return word


def whole_number(word: str) -> int:
    """An integer."""
    try:
        return int(word)
    except ValueError:
        raise ConfigurationError("", got=repr(word), expected="a whole number") from None


def number(word: str) -> float:
    """A real number."""
    try:
        return float(word)
    except ValueError:
        raise ConfigurationError("", got=repr(word), expected="a number") from None


def number_or_none(word: str) -> float | None:
    """A real number, or "none"."""
    if word.lower() == "none":
        return None
    try:
        return float(word)
    except ValueError:
        raise ConfigurationError("", got=repr(word), expected="a number, or none") from None


def one_of(*names: str) -> Reader:
    """A reader of one of several names.

    Arguments:
        names: all that there are.
    """

    def read(word: str) -> str:
        if word not in names:
            expected = f"one of: {', '.join(names)}"
            fix = suggestion(word, names)
            raise ConfigurationError("", got=repr(word), expected=expected, fix=fix)
        return word

    return read


def position(metavar: str, help: str, default: Any = dataclasses.MISSING, **how: Any) -> Any:
    """A field that is a word without a name; required if it has no default."""
    return _field(default, help, metavar=metavar, kind="position", **how)


def option(metavar: str, help: str, read: Reader = text, *, default: Any = None, **how: Any) -> Any:
    """A field that is an option with a value."""
    return _field(default, help, metavar=metavar, read=read, kind="value", **how)


def options(metavar: str, help: str, **how: Any) -> Any:
    """A field that is an option with one or several words, a tuple of texts."""
    return _field((), help, metavar=metavar, kind="values", **how)


def flag(help: str) -> Any:
    """A field that is true if its option is given."""
    return _field(False, help, kind="flag")


def switch(help: str, **how: Any) -> Any:
    """A field that --NAME makes true and --no-NAME false; None if neither is given."""
    return _field(None, help, kind="switch", **how)


def _field(
    default: Any,
    help: str,
    *,
    metavar: str = "",
    read: Reader = text,
    kind: str,
    usual: str = "",
    group: str = "options",
) -> Any:
    declared = Option(help, metavar, read, kind, usual, group)  # pyright: ignore[reportArgumentType]
    return dataclasses.field(default=default, metadata={"option": declared}, kw_only=True)


def parse(kind: type[Arguments], command: str, words: Sequence[str]) -> Arguments:
    """The values of the words after a sub-command.

    Arguments:
        kind: a dataclass; its fields are the options.
        command: the name of the sub-command.
        words: the words after it.

    Raises:
        ConfigurationError: an unknown option, a missing or wrong value, or a word too many.
    """
    return kind(**given(kind, command, words))


def given(kind: type[Any], command: str, words: Sequence[str]) -> dict[str, Any]:
    """The values of those options alone that the words name; arguments and errors as `parse`."""
    declared = _declared(kind)
    positions = [name for name, each in declared.items() if each.kind == "position"]
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("-") and len(word) > 1:
            name, value = _read_option(declared, command, word, rest)
        elif positions:
            name = positions.pop(0)
            value = _read(declared[name], declared[name].metavar, word)
        else:
            raise ConfigurationError(
                f"{command} takes no further word", got=repr(word), fix=_see_help(command)
            )
        found[name] = value
    fields = {field.name: field for field in dataclasses.fields(kind)}
    missing = [name for name in positions if fields[name].default is dataclasses.MISSING]
    if missing:
        names = " ".join(declared[name].metavar for name in missing)
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigurationError(
            f"{names} {verb} missing", expected=_usage(kind, command), fix=_see_help(command)
        )
    return found


def _declared(kind: type[Any]) -> dict[str, Option]:
    return {field.name: field.metadata["option"] for field in dataclasses.fields(kind)}


def _read_option(
    declared: Mapping[str, Option], command: str, word: str, rest: list[str]
) -> tuple[str, Any]:
    """The name and value of one option; takes the words of its value from the rest."""
    word, equals, attached = word.partition("=")
    name = word.removeprefix("--").replace("-", "_")
    asked = declared.get(name)
    off = declared.get(name.removeprefix("no_"))
    if name.startswith("no_") and asked is None and off is not None and off.kind == "switch":
        return _flagged(word, equals, name.removeprefix("no_"), False)
    if asked is None or asked.kind == "position" or not word.startswith("--"):
        names = [spelt for name, each in declared.items() for spelt in _spellings(name, each)]
        fix = suggestion(word, names)
        raise ConfigurationError(
            f"{command} has no option {word}", fix=f"{fix} {_see_help(command)}".strip()
        )
    if asked.kind in ("flag", "switch"):
        return _flagged(word, equals, name, True)
    values = [attached] if equals else []
    while not equals and rest and not rest[0].startswith("--"):
        values.append(rest.pop(0))
        if asked.kind == "value":
            break
    if not values:
        raise ConfigurationError(word, got="no value", expected=asked.metavar)
    if asked.kind == "values":
        return name, tuple(values)
    return name, _read(asked, word, values[0])


def _flagged(word: str, equals: str, name: str, value: bool) -> tuple[str, bool]:
    if equals:
        raise ConfigurationError(word, got="a value", expected="none")
    return name, value


def _read(asked: Option, name: str, word: str) -> object:
    try:
        return asked.read(word)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}{error}") from None


def _spellings(name: str, asked: Option) -> list[str]:
    if asked.kind == "position":
        return []
    dashed = name.replace("_", "-")
    return [f"--{dashed}", f"--no-{dashed}"] if asked.kind == "switch" else [f"--{dashed}"]


def _see_help(command: str) -> str:
    return f"`throughtime {command} --help` lists the options."


def _usage(kind: type[Any], command: str) -> str:
    words = [
        field.metadata["option"].metavar
        if field.default is dataclasses.MISSING
        else f"[{field.metadata['option'].metavar}]"
        for field in dataclasses.fields(kind)
        if field.metadata["option"].kind == "position"
    ]
    return " ".join(["throughtime", command, *words, "[options]"])


def help_text(kind: type[Any], command: str) -> str:
    """The help of a sub-command, as wide as the terminal, at most 100 columns.

    Arguments:
        kind: a dataclass; its docstring describes the command, its fields are the options. Its
            class attribute `usual`, where there is one, replaces the values of options left out.
        command: the name of the sub-command.
    """
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    lines = [f"usage: {_usage(kind, command)}", ""]
    lines += textwrap.wrap(" ".join((inspect.getdoc(kind) or "").split()), width)
    declared = _declared(kind)
    usual: Mapping[str, str] = getattr(kind, "usual", {})
    groups: dict[str, list[str]] = {"arguments": [], "options": []}
    for name, each in declared.items():
        group = "arguments" if each.kind == "position" else each.group
        shown = _help_lines(name, each, usual.get(name, each.usual), width)
        groups.setdefault(group, []).extend(shown)
    groups["options"] += _two_columns("--help", "Show this help.", width)
    for group, shown in groups.items():
        lines += ["", f"{group}:", *shown] if shown else []
    return "\n".join(lines) + "\n"


def _help_lines(name: str, each: Option, usual: str, width: int) -> Iterator[str]:
    spelt = " | ".join(_spellings(name, each)) or each.metavar
    if each.kind in ("value", "values"):
        spelt += f" {each.metavar}" + (" ..." if each.kind == "values" else "")
    yield from _two_columns(spelt, each.help + (f" (default: {usual})" if usual else ""), width)


def _two_columns(left: str, right: str, width: int) -> list[str]:
    indent = " " * _LEFT_COLUMN
    wrapped = textwrap.wrap(
        right, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    if len(left) + 4 > _LEFT_COLUMN:
        return [f"  {left}", *wrapped]
    return [f"  {left}".ljust(_LEFT_COLUMN) + wrapped[0][_LEFT_COLUMN:], *wrapped[1:]]
