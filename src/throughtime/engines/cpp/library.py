"""Compiled libraries: each built once, kept in the user's cache, and loaded once a process."""

import contextlib
import ctypes
import hashlib
import json
import os
import platform
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from throughtime.engines.cpp import building
from throughtime.engines.cpp.building import CompilationError, LibraryError, compile_source, load
from throughtime.engines.cpp.cache import CacheFolderError, Entry, make_in_a_folder, open_cache
from throughtime.engines.cpp.compiler import VARIABLE, Compiler

BUILD_LIMIT = 120.0
"""Seconds of CPU time that a compiler may take over the code of one cell."""

FORMAT = 1
"""Raised when libraries that were built before must not be used any more."""


@final
@dataclass(frozen=True)
class Build:
    """A library that this process has loaded.

    Attributes:
        key: The key of everything that the library depends on.
        seconds: The time that this process took to get it.
        cached: If True, it was found in the cache and not compiled.
    """

    key: str
    seconds: float
    cached: bool


_FIX = f"Use engine='eager', or name another compiler in {VARIABLE}."

_loaded: dict[str, ctypes.CDLL] = {}
_locks: dict[str, threading.Lock] = {}
_builds: list[Build] = []

if hasattr(os, "register_at_fork"):  # a child has no threads that would open its parent's locks
    os.register_at_fork(after_in_child=_locks.clear)


def load_library(
    source: str, definitions: Mapping[str, str | int], compiler: Compiler
) -> ctypes.CDLL:
    """The shared library of one C++ file: loaded before, or from the cache, or compiled now.

    Arguments:
        definitions: Macros by name: identifiers, with letters, digits and _ as values.

    Raises:
        CompilationError: The file cannot be compiled, or the library cannot be loaded.
        CacheFolderError: Others could change the cache folder, or the disks are full.
        ConfigurationError: A definition is not a name with a plain value.
    """
    key = library_key(source, definitions, compiler)
    with _locks.setdefault(key, threading.Lock()):  # one build of a key, whatever the threads
        if key not in _loaded:
            start = time.perf_counter()
            library = _from_cache(key, _functions(source))
            cached = library is not None
            if library is None:
                library = _build(key, source, definitions, compiler)
            _use_openmp(library)
            _loaded[key] = library
            _builds.append(Build(key, time.perf_counter() - start, cached))
        return _loaded[key]


_OPENMP = ("GOMP_parallel", "omp_in_parallel", "omp_get_num_threads", "omp_get_max_threads")


def _use_openmp(library: ctypes.CDLL) -> None:
    """Give a library the functions of the OpenMP library that torch has loaded, if there is one.

    A symbol is looked up in the libraries on which torch's own depends.
    """
    take = getattr(library, "use_openmp", None)
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if take is None or not path.exists():
        return
    with contextlib.suppress(OSError, AttributeError):
        own = ctypes.CDLL(str(path))
        take(*(ctypes.cast(getattr(own, name), ctypes.c_void_p) for name in _OPENMP))


def builds() -> list[Build]:
    """The libraries that this process has loaded, in order."""
    return list(_builds)


def library_key(source: str, definitions: Mapping[str, str | int], compiler: Compiler) -> str:
    """The name of a library: it changes with everything that the library depends on."""
    files = sorted(path for path in building.SOURCE_FOLDER.glob("*") if path.is_file())
    facts = {
        "format": FORMAT,
        "source": source,
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "definitions": {name: str(value) for name, value in definitions.items()},
        "compiler": [compiler.path, compiler.version, *compiler.flags],
        "cpu": compiler.cpu,
        "system": [platform.system(), platform.machine(), *platform.libc_ver()],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _functions(source: str) -> list[str]:
    """The functions that the text of a file makes for others."""
    return re.findall(r'^extern "C"[^;{(]*?(\w+)\([^;{]*\{', source, re.M)


def _from_cache(key: str, functions: Sequence[str]) -> ctypes.CDLL | None:
    cache = open_cache()
    if isinstance(cache, str):
        return None
    entry = Entry(cache, key)
    try:
        with entry.opened() as file:
            return load(file, functions)
    except LibraryError:
        # Whole, and yet no library here: it is built again, and takes this one's place if that
        # can be written.
        with contextlib.suppress(OSError):
            entry.remove()
    except OSError:  # there is none, or it is damaged
        pass
    return None


def _build(
    key: str, source: str, definitions: Mapping[str, str | int], compiler: Compiler
) -> ctypes.CDLL:
    start = time.perf_counter()
    words = (compiler.path, *compiler.flags)

    def build(folder: Path) -> ctypes.CDLL | str:
        built = compile_source(source, definitions, words, folder, BUILD_LIMIT)
        if isinstance(built, str):
            return built
        with built.open("rb") as file:
            library = load(file, _functions(source))
        _keep(key, built, {"compiler": compiler.version, "seconds": time.perf_counter() - start})
        return library

    try:
        library = make_in_a_folder(build)
    except CacheFolderError as error:  # no room, neither there nor with the temporary files
        raise CompilationError(str(error)) from error
    except LibraryError as error:
        raise CompilationError(
            f"what {compiler.path} has compiled cannot be loaded", got=str(error), fix=_FIX
        ) from error
    if isinstance(library, str):
        raise CompilationError(
            f"{compiler.path} cannot compile the native engine's code", got=library, fix=_FIX
        )
    return library


def _keep(key: str, built: Path, facts: Mapping[str, str | float]) -> None:
    """Put a library into the cache, for the processes to come, if the cache can be written."""
    cache = open_cache()
    if isinstance(cache, str):
        return
    entry = Entry(cache, key)
    # Another process may have been first. Its file is left in place: others have it in use, which
    # on a network drive would lose it.
    if not entry.valid():
        with contextlib.suppress(OSError):  # read-only or full: this process has its library
            entry.publish(built, facts)
