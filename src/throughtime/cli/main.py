"""The `throughtime` command: runs a sub-command; turns errors into messages and exit codes.

Exit codes: 0 done, 1 failed, 2 usage (an unknown name, an option out of range), 130 stopped by
Ctrl-C, 143 stopped by SIGTERM.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from throughtime import __version__
from throughtime.cli.arguments import help_text
from throughtime.core.errors import (
    ConfigurationError,
    RunInterrupted,
    ThroughtimeError,
    suggestion,
)

DONE, FAILED, USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

COMMANDS = {
    "diagnose": "find out why a model does not remember, and what helps",
    "inspect": "measure a model with instruments, all results on one page",
    "compare": "train several models on a task and write a report",
    "reproduce": "run a study of the literature, its numbers beside ours",
    "train": "train one model on a task",
    "sample": "continue a text with a trained language model",
    "translate": "translate lines of text by a trained encoder-decoder",
    "chat": "talk to a model of dialogues",
    "judge": "let people compare the answers of two models of dialogues",
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
  throughtime inspect runs/digits/lstm/seed-0 --instruments gates,lyapunov
  throughtime compare digits
  throughtime compare adding --length 200 --models rnn,lstm,gru --seeds 5
  throughtime compare mnist --models irnn,skip-rnn:lag=28,hidden=100
  throughtime train temporal-order lstm:hidden=32 --steps 5000
  throughtime sample runs/shakespeare --prompt ROMEO:
  throughtime translate runs/translation/attention/seed-0 < lines.txt
  throughtime chat runs/dailydialog/hred/seed-0
  throughtime reproduce skip-coefficient
  throughtime complexity td
  throughtime list tasks

throughtime help COMMAND shows the options of a command.
Exit codes: 0 done, 1 failed, 2 usage, 130 stopped by Ctrl-C, 143 stopped by
SIGTERM (the same command then goes on).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        sys.stderr.write(_help())
        return USAGE
    if words[0] in ("-h", "--help", "help"):
        if len(words) == 1:
            sys.stdout.write(_help())
            return DONE
        words = [words[1], "--help"]
    if words[0] in ("-V", "--version"):
        sys.stdout.write(f"throughtime {__version__}\n")
        return DONE
    name = words[0]
    if name not in COMMANDS:
        hint = suggestion(name, COMMANDS)
        known = f"There are: {', '.join(COMMANDS)}."
        _complain("error", " ".join(filter(None, (f"unknown command {name!r}.", hint, known))))
        return USAGE
    stopped = _Stop()
    try:
        command = importlib.import_module(f"throughtime.cli.{name}")
        if {"-h", "--help"} & {*words[1:]}:
            sys.stdout.write(help_text(command.Arguments, name))
            return DONE
        _check_words(words)
        return command.run(words[1:])
    except RunInterrupted as error:
        _complain("stopped", str(error))
        return stopped.code
    except KeyboardInterrupt:
        _complain("stopped", f"{stopped.name}. The same command starts again.")
        return stopped.code
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
    finally:
        stopped.release()


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


class _Stop:
    """SIGTERM as Ctrl-C: a run saves and stops, anything else is broken off."""

    def __init__(self) -> None:
        self.terminated = False
        self.release: Callable[[], object] = lambda: None
        if threading.current_thread() is threading.main_thread():
            previous = signal.signal(signal.SIGTERM, self._interrupt)
            self.release = lambda: signal.signal(signal.SIGTERM, previous)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True
        loaded = sys.modules.get("throughtime.training.interruption")
        if loaded is None or not loaded.request_stop():
            raise KeyboardInterrupt

    @property
    def code(self) -> int:
        """The exit code."""
        return TERMINATED if self.terminated else INTERRUPTED

    @property
    def name(self) -> str:
        """The signal that came, in words."""
        return "SIGTERM" if self.terminated else "Ctrl-C"


def _help() -> str:
    width = max(map(len, COMMANDS))
    return _HELP.format(
        commands="\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    )


def _complain(kind: str, message: str) -> None:
    """Write a message to stderr, wrapped at words where that is a terminal."""
    from rich.text import Text

    from throughtime.cli.output import remark

    style = "bold red" if kind == "error" else "bold"
    remark(Text.assemble((f"throughtime: {kind}: ", style), message))
