"""A shared library, compiled without a shell in limited time, and loaded only if it is whole."""

import contextlib
import ctypes
import itertools
import math
import os
import re
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from throughtime.core.errors import ConfigurationError, ThroughtimeError

SOURCE_FOLDER = Path(__file__).with_name("source")
"""The C++ files of this package, which generated code includes."""

# What the contract of vectors.h asks for; those for this machine's CPU come with the compiler.
FLAGS = (
    *("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-Wno-psabi", "-fPIC", "-shared", "-pthread"),
)


_WALL_LIMIT = 5.0  # times the limit of CPU time: on a loaded machine a program waits for its turn
_MOST_OUTPUT = 1 << 26  # bytes of a compiler's output; templates make megabytes of errors
_KEPT_OUTPUT = 1 << 18
_DESCRIPTORS = "/proc/self/fd"  # on Linux
_numbers = itertools.count(1)


class _Flood(Exception):  # noqa: N818  # a reason to stop, which nobody outside sees
    """The output of a program is longer than anybody reads."""


class CompilationError(ThroughtimeError, RuntimeError):
    """A compiler did not turn the native engine's code into a library that can be loaded."""


class LibraryError(OSError):
    """A file is no library that can be loaded on this machine."""


def compile_source(
    source: str,
    definitions: Mapping[str, str | int],
    words: Sequence[str],
    folder: Path,
    limit: float,
) -> Path | str:
    """Compile the text of one C++ file to a shared library.

    Arguments:
        source: The text; it may include the files of this package.
        words: The compiler's absolute path, then its flags.
        folder: The folder of the library, empty before.
        limit: Seconds of CPU time, as for `run_program`.

    Returns:
        The library's path, or the error.

    Raises:
        ConfigurationError: A definition is not a name with a plain value.
        OSError: The folder cannot be written.
    """
    macros = [_macro(name, value) for name, value in definitions.items()]
    (folder / "source.cpp").write_text(source, encoding="utf-8")
    # names relative to the folder: two builds of one source are equal to the bit
    files = ["-I", str(SOURCE_FOLDER), "-o", "library.so", "source.cpp"]
    code, output = run_program([*words, *macros, *files], folder, limit)
    if code is None:
        return output
    if code != 0:
        return _errors(output) or f"exit code {code} and no message"
    library = folder / "library.so"
    return library if library.is_file() else "exit code 0, but no library"


def run_program(words: Sequence[str], folder: Path, limit: float) -> tuple[int | None, str]:
    """Run a program, without a shell.

    Arguments:
        words: The program's path, then its arguments.
        limit: Seconds of CPU time after which a process of it is killed. After five times as many
            seconds, all processes that it has started are killed.

    Returns:
        The exit code and the beginning of the output; or None, and the reason why it was stopped.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  # the user's compiler; its arguments are a list
            words,
            cwd=folder,
            # its temporary files in the folder, which is removed whatever becomes of it
            env={**os.environ, "LC_ALL": "C", "TMPDIR": "."},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a process group of its own, to be killed as a whole
        )
    except OSError as error:  # not a program after all
        return 127, f"error: {error.strerror}"
    with process:
        try:
            _limit_cpu_time(process.pid, math.ceil(limit))
            deadline = time.monotonic() + _WALL_LIMIT * limit
            output = _read(process, deadline)
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None, f"it was stopped after {_WALL_LIMIT * limit:g} seconds"
        except _Flood:
            return None, f"it was stopped after more than {_MOST_OUTPUT >> 20} MB of output"
        finally:  # after Ctrl-C too, which does not reach another session
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # it is just gone
                    os.killpg(process.pid, signal.SIGKILL)
        text = output.decode(errors="replace")
        # a compiler reports the signal of a process that it has started in these words
        reported = process.returncode != 0 and "CPU time limit exceeded" in text
        if reported or process.returncode == -signal.SIGXCPU:
            return None, f"it was stopped after {math.ceil(limit)} seconds of CPU time"
        return process.returncode, text


def _limit_cpu_time(pid: int, seconds: int) -> None:
    """Limit the CPU time of a process, and of each one that it starts. Linux alone can do that."""
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(ProcessLookupError, PermissionError):  # the wall limit remains
            _, hard = resource.prlimit(pid, resource.RLIMIT_CPU)
            if hard == resource.RLIM_INFINITY or hard > seconds:
                resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, hard))


def _read(process: "subprocess.Popen[bytes]", deadline: float) -> bytes:
    """The beginning of a process's output, read to its end so that it does not wait."""
    assert process.stdout is not None
    kept, total = b"", 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, deadline)
            if not selector.select(left):
                continue
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                return kept
            total += len(chunk)
            if total > _MOST_OUTPUT:
                raise _Flood
            kept = (kept + chunk)[:_KEPT_OUTPUT] if len(kept) < _KEPT_OUTPUT else kept


def _errors(output: str) -> str:
    """The lines with errors in a compiler's output, shortened."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"\berror\b", line, re.I)] or lines
    return "; ".join(line[:160].rstrip(".") for line in wrong[:3])


def _macro(name: str, value: str | int) -> str:
    if not (re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)):
        raise ConfigurationError("name of a definition", got=repr(name), expected="an identifier")
    if not re.fullmatch(r"[A-Za-z0-9_]+", str(value)):
        raise ConfigurationError(
            f"value of the definition {name}", got=repr(value), expected="letters, digits and _"
        )
    return f"-D{name}={value}"


def load(file: BinaryIO, functions: Sequence[str]) -> ctypes.CDLL:
    """Load a library.

    Arguments:
        file: A file open for reading. The library is mapped from this file, even if its name stands
            for another one by now.
        functions: Names that the library must have.

    Raises:
        LibraryError: The file is cut short or of another format, or lacks a function.
    """
    _check_whole(file)
    try:
        library = ctypes.CDLL(_path(file))
    except OSError as error:
        raise LibraryError(str(error)) from error
    missing = [name for name in functions if not hasattr(library, name)]
    if missing:
        unload(library)
        raise LibraryError(f"it has no function {', '.join(missing)}")
    return library


def unload(library: ctypes.CDLL) -> None:
    """Let go of a library's file: on a network drive it could not be removed before."""
    import _ctypes

    _ctypes.dlclose(library._handle)


def _path(file: BinaryIO) -> str:
    """A path that leads to an open file. The system's loader takes equal paths for one library, so
    each call spells it in another way."""
    spelling = "".join("/." if bit == "1" else "/" for bit in f"{next(_numbers):b}")
    path = f"{_DESCRIPTORS}{spelling}/{file.fileno()}"
    try:
        if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            return path
    except OSError:  # no Linux, or no /proc
        pass
    return file.name


def _check_whole(file: BinaryIO) -> None:
    """Refuse an ELF file that was cut short: reading beyond its end kills the process."""
    size, head = os.fstat(file.fileno()).st_size, file.read(64)
    file.seek(0)
    if head[:5] != b"\x7fELF\x02":  # another format, which the system's loader judges
        return
    order = "<" if head[5:6] == b"\x01" else ">"
    try:
        start, sections, each, count, section_size, section_count = struct.unpack(
            f"{order}32xQQ6xHHHH2x", head
        )
        file.seek(start)
        segments = file.read(each * count)
        file.seek(0)
        ends = [sections + section_size * section_count, start + each * count]
        for k in range(count):
            kind, offset, length = struct.unpack_from(f"{order}I4xQ16xQ", segments, k * each)
            ends.append(offset + length if kind == 1 else 0)  # 1: mapped to memory
    except (struct.error, OverflowError, OSError) as error:
        raise LibraryError("it is cut short") from error
    if max(ends) > size:
        raise LibraryError(f"it is cut short: {size} bytes of {max(ends)}")
