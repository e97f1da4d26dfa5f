"""Processes forked from a server that has loaded all they need: they start in milliseconds.

Each process of tests starts one server, on first use, for whatever it tests in other processes.
"""

import atexit
import functools
import multiprocessing
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1"}


@functools.cache
def context() -> ForkServerContext:
    """Return the context of multiprocessing whose processes are forked from the server."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["preloaded"])
    atexit.register(_end_children)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    return found


def _end_children() -> None:
    """Kill the processes that an interrupted test has left.

    multiprocessing would wait for them at exit, and the server lives as long as one of them.
    """
    for process in multiprocessing.active_children():
        process.kill()


def script(code: str, *words: str) -> tuple[int | None, str]:
    """Run Python code in a process of the server; return its exit code and its output.

    Arguments:
        code: the code, as `python -c` takes it.
        words: the words that follow it in `sys.argv`.
    """
    with tempfile.NamedTemporaryFile("r") as output:
        process = context().Process(target=_execute, args=(code, words, output.name))
        process.start()
        process.join()
        return process.exitcode, output.read()


def _execute(code: str, words: tuple[str, ...], output: str) -> None:
    for descriptor in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), descriptor)
    warnings.simplefilter("ignore")
    sys.argv = ["-c", *words]
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), module.__dict__)


def call(function: Callable[..., object], *arguments: Any) -> None:
    """Call a function in a process of the server; the processes that it starts are forked too."""
    forking = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forking  # pyright: ignore
    function(*arguments)


def command(words: list[str], output: Path, errors: Path) -> None:
    """Run `throughtime` in a process and a session of its own, with its output in files."""
    os.setsid()
    for path, descriptor in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    from throughtime.cli.main import main

    sys.exit(main(words))
