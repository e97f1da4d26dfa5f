"""The options of a sub-command: fields of a dataclass, read from words, shown as help.

Nothing here imports torch, so that help comes at once.
"""

import argparse
import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeVar

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
        usual: the value if it is left out, in words; empty for no remark.
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
    """A reader of one of several names."""

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

    Raises:
        ConfigurationError: an unknown option, a missing or wrong value, or a word too many.
    """
    return kind(**given(kind, command, words))


def given(kind: type[Any], command: str, words: Sequence[str]) -> dict[str, Any]:
    """The values of those options alone that the words name; arguments and errors as `parse`."""
    parser = _parser(kind, command)
    try:
        # the words without a name may stand before, between and after the options
        found, rest = parser.parse_known_intermixed_args(list(words))
    except argparse.ArgumentError as error:
        raise _refused(parser, error) from None
    if rest:
        raise _not_taken(parser, command, rest[0])
    return vars(found)


class _Parser(argparse.ArgumentParser):
    """A parser that raises ConfigurationError instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        """Raise the error; argparse calls this where a required word is missing."""
        names = message.rpartition(": ")[2].replace(", ", " and ")
        verb = "are" if " " in names else "is"
        usage = self.format_usage().removeprefix("usage: ").strip()
        raise ConfigurationError(
            f"{names} {verb} missing", expected=usage, fix=_see_help(self.prog)
        )


class _HelpFormatter(argparse.HelpFormatter):
    """Help as wide as the terminal, at most 100 columns, without breaks within a word."""

    def __init__(self, prog: str):
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        super().__init__(prog, max_help_position=_LEFT_COLUMN, width=width)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _parser(kind: type[Any], command: str) -> _Parser:
    fields = dataclasses.fields(kind)
    declared: dict[str, Option] = {field.name: field.metadata["option"] for field in fields}
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    positions = {name: each for name, each in declared.items() if each.kind == "position"}
    words = [p.metavar if name in required else f"[{p.metavar}]" for name, p in positions.items()]
    parser = _Parser(
        prog=command,
        usage=" ".join(["throughtime", command, *words, "[options]"]),
        description=inspect.getdoc(kind),
        formatter_class=_HelpFormatter,
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    groups = {"arguments": parser.add_argument_group("arguments")}
    groups["options"] = parser.add_argument_group("options")
    usual: Mapping[str, str] = getattr(kind, "usual", {})
    for name, each in declared.items():
        group = "arguments" if each.kind == "position" else each.group
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        value = usual.get(name, each.usual)
        shown = (each.help + (f" (default: {value})" if value else "")).replace("%", "%%")
        spelling = name if each.kind == "position" else f"--{name.replace('_', '-')}"
        how = _HOW[each.kind](each, name in required)
        groups[group].add_argument(spelling, help=shown, **how)
    groups["options"].add_argument("--help", action="help", help="Show this help.")
    return parser


_HOW: Mapping[str, Callable[[Option, bool], dict[str, Any]]] = {
    "position": lambda each, required: {
        "metavar": each.metavar,
        "type": _type(each.read),
        **({} if required else {"nargs": "?"}),
    },
    "value": lambda each, _: {"metavar": each.metavar, "type": _type(each.read)},
    "values": lambda each, _: {"metavar": each.metavar, "nargs": "+", "action": _AsTuple},
    "flag": lambda *_: {"action": "store_true"},
    "switch": lambda *_: {"action": argparse.BooleanOptionalAction},
}
"""The arguments of `add_argument` for each kind of option."""


class _AsTuple(argparse.Action):
    """An action that stores several words as a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        """Store the words."""
        setattr(namespace, self.dest, tuple(values))


def _type(read: Reader) -> Reader:
    """A reader whose errors argparse shows as they are."""

    def convert(word: str) -> object:
        if word is argparse.SUPPRESS:  # the default of a position that is left out
            return word
        try:
            return read(word)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(": ")) from None

    return convert


def _refused(parser: _Parser, error: argparse.ArgumentError) -> ConfigurationError:
    """The error for an option whose value argparse does not accept."""
    name, told = str(error.argument_name), error.message
    metavars = {"/".join(action.option_strings): action.metavar for action in parser._actions}
    if told.startswith("expected "):
        return ConfigurationError(name, got="no value", expected=str(metavars[name]))
    if told.startswith("ignored explicit argument "):
        value = told.removeprefix("ignored explicit argument ")
        return ConfigurationError(name, got=value, expected="no value")
    return ConfigurationError(f"{name}: {told}")


def _not_taken(parser: _Parser, command: str, word: str) -> ConfigurationError:
    """The error for a word that no option takes."""
    if not word.startswith("-"):
        return ConfigurationError(
            f"{command} takes no further word", got=repr(word), fix=_see_help(command)
        )
    name = word.partition("=")[0]
    known = [spelling for action in parser._actions for spelling in action.option_strings]
    fix = f"{suggestion(name, known)} {_see_help(command)}".strip()
    return ConfigurationError(f"{command} has no option {name}", fix=fix)


def _see_help(command: str) -> str:
    return f"`throughtime {command} --help` lists the options."


def help_text(kind: type[Any], command: str) -> str:
    """The help of a sub-command, as wide as the terminal, at most 100 columns.

    Arguments:
        kind: A dataclass; its docstring describes the command, its fields are the options. Its
            class attribute `usual`, where there is one, replaces the values of options left out.
        command: The name of the sub-command.
    """
    return _parser(kind, command).format_help()
