"""The `throughtime` command: runs a sub-command; turns errors into messages and exit codes.

Exit codes: 0 done, 1 failed, 2 usage (an unknown name, an option out of range), 130 stopped by
Ctrl-C.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from throughtime.core.errors import ConfigurationError, RunInterrupted, ThroughtimeError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

COMMANDS = {
    "diagnose": "find out why a model does not remember, and what helps",
    "compare": "train several models on a task and write a report",
    "reproduce": "run a study of the literature, its numbers beside ours",
    "train": "train one model on a task",
    "list": "show the tasks and models there are, with their options",
    "complexity": "measure and draw the graph of an architecture",
    "compiler": "show the C++ compiler that the native engine uses, and its cache",
    "version": "show the versions of what results depend on",
}

_HELP = """\
usage: throughtime COMMAND [options]

Recurrent networks that have to remember: train, compare and measure them.

commands:
{commands}

examples:
  throughtime diagnose my_project.py:make
  throughtime compare digits
  throughtime compare adding --length 200 --models rnn,lstm,gru --seeds 5
  throughtime compare mnist --models irnn,skip-rnn:lag=28,hidden=100
  throughtime train temporal-order lstm:hidden=32 --steps 5000
  throughtime reproduce skip-coefficient
  throughtime complexity td
  throughtime list tasks

throughtime COMMAND --help tells the options of a command.
Exit codes: 0 done, 1 failed, 2 usage, 130 stopped by Ctrl-C (the same command
then goes on).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Arguments:
        arguments: those after the program's name; of this process by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        sys.stderr.write(_help())
        return USAGE
    if words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return DONE
    name = "version" if words[0] in ("-V", "--version") else words[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        _complain("error", f"unknown command {name!r}.{hint} There are: {', '.join(COMMANDS)}.")
        return USAGE
    try:
        _check_words(words)
        return importlib.import_module(f"throughtime.cli.{name}").run(words[1:])
    except SystemExit as stop:  # of tyro: --help, or options that do not parse
        return stop.code if isinstance(stop.code, int) else USAGE
    except RunInterrupted as error:
        _complain("stopped", str(error))
        return INTERRUPTED
    except KeyboardInterrupt:
        _complain("stopped", "Ctrl-C. The same command starts again.")
        return INTERRUPTED
    except ConfigurationError as error:
        _complain("error", str(error))
        return USAGE
    except ThroughtimeError as error:
        _complain("error", str(error))
        return FAILED
    except BrokenPipeError:
        # Whoever read our output has had enough. Python would complain while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:  # a path that the system refuses, wherever it is looked at first
        where = "" if error.filename is None else f"{error.filename}: "
        _complain("error", f"{where}{error.strerror or error}")
        return FAILED


def _check_words(words: Sequence[str]) -> None:
    """Refuse what no option takes: an empty text would be read as the current folder."""
    for before, word in zip(["", *words], words, strict=False):
        if "\0" in word:
            raise ConfigurationError("an argument", got=repr(word), expected="text without \\0")
        option, equals, value = word.partition("=")
        if not word or (option.startswith("--") and equals and not value):
            raise ConfigurationError(
                (option or before) or "an argument", got="an empty text", expected="a value"
            )


def _help() -> str:
    width = max(map(len, COMMANDS))
    return _HELP.format(
        commands="\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    )


def _complain(kind: str, message: str) -> None:
    """Write a message to stderr, wrapped at words where that is a terminal."""
    from rich.text import Text

    from throughtime.cli.output import error_console

    console = error_console()
    text = Text.assemble((f"{kind}: ", "bold red" if kind == "error" else "bold"), message)
    console.print(text, soft_wrap=not console.is_terminal)
