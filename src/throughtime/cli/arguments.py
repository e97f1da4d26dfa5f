"""The options of a sub-command, from its words to a dataclass."""

import inspect
import textwrap
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

Arguments = TypeVar("Arguments")

_WIDTH = 80


def option(metavar: str | None, usual: str) -> Any:
    """How an option is shown in the help.

    Arguments:
        metavar: what stands for its value; None for what the type says.
        usual: its value if it is left out, in words; empty to say nothing.
    """
    hint = f"(default: {usual})" if usual else ""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


def parse(kind: type[Arguments], command: str, words: Sequence[str]) -> Arguments:
    """Parse the words after a sub-command. Exits with code 0 after --help, 2 if they do not parse.

    Arguments:
        kind: a dataclass; its fields are the options, their docstrings the help.
        command: name of the sub-command.
        words: those after it.
    """
    description = " ".join((inspect.getdoc(kind) or "").split())
    return tyro.cli(
        kind,
        prog=f"throughtime {command}",
        description=textwrap.fill(description, _WIDTH, initial_indent=" ", subsequent_indent=" "),
        args=words,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff),
    )
