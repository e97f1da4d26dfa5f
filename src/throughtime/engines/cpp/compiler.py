"""The C++ compiler of this machine: found once a process, by having it compile a few lines."""

import functools
import hashlib
import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import final

from throughtime.engines.cpp.building import (
    FLAGS,
    CompilationError,
    LibraryError,
    compile_source,
    load,
    run_program,
    unload,
)
from throughtime.engines.cpp.cache import VARIABLE as FOLDER
from throughtime.engines.cpp.cache import CacheFolderError, make_in_a_folder

__all__ = ["CompilationError", "Compiler", "Search", "find_compiler", "forget", "search"]

VARIABLE = "THROUGHTIME_CXX"
"""Names the one compiler that is used; "none", or nothing, switches the native engine off."""

NAMES = ("c++", "g++", "clang++")
"""The names looked for on PATH if no variable names a compiler, in this order."""

PROBE_LIMIT = 20.0
"""Seconds of CPU time that a compiler may take over the few lines by which it is tried."""

_SYSTEM = os.name

# What the vector layer needs of a compiler, and how wide its vectors are under the flags: the
# compiler knows the CPU's features, a kernel or hypervisor that hides some included.
_PROBE = """\
#include <cstddef>
#include <pthread.h>
typedef float vec __attribute__((vector_size(16)));
typedef int mask __attribute__((vector_size(16)));
extern "C" int throughtime_probe(int n) {
    vec v = {};
    v += float(n);
    mask above = v > vec{};
    v = above ? v : -v;
    return __builtin_convertvector(v, mask)[3];
}
extern "C" int throughtime_vector_bytes() {
#if defined(__AVX512F__)
    return 64;
#elif defined(__AVX2__) && defined(__FMA__)
    return 32;
#else
    return 16;
#endif
}
"""


@final
@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that works here.

    Attributes:
        path: The absolute path of the program.
        version: The first line of the output of `--version`.
        flags: The compiler's arguments, those for this machine's CPU included.
        vector_bytes: The width of the CPU's vectors: 64, 32 or 16.
        cpu: The CPU's model, and a digest of its model and features.
    """

    path: str
    version: str
    flags: tuple[str, ...]
    vector_bytes: int
    cpu: str


@final
@dataclass(frozen=True)
class Search:
    """The search for a compiler.

    Attributes:
        found: The compiler, or the reason why there is none.
        tried: The path of a working program, or its fault, by name.
    """

    found: Compiler | str
    tried: dict[str, str]


def find_compiler() -> Compiler | str:
    """The compiler of the native engine, or the reason why there is none. Found once a process.

    It is the program that the environment variable THROUGHTIME_CXX names; else the one that CXX
    names; else c++, g++ or clang++ on PATH: the first that compiles a few lines which then run.
    """
    return search().found


@functools.cache
def search() -> Search:
    """Look for a compiler in the order that `find_compiler` gives. Done once a process."""
    if _SYSTEM == "nt":
        return Search("the native engine is not supported on Windows yet", {})
    chosen = os.environ.get(VARIABLE)
    if chosen is not None and chosen.strip().lower() in ("", "none"):
        return Search(f"the native engine is switched off by {VARIABLE}={chosen}", {})
    candidates = _candidates(chosen)
    tried: dict[str, str] = {}
    for name, program in candidates.items():
        path = shutil.which(program)
        if path is None:
            tried[name] = "not found"
            continue
        try:
            found = _probe(os.path.abspath(path))
        except CacheFolderError as error:  # no place to try it in
            return Search(str(error).rstrip("."), tried)
        if isinstance(found, Compiler):
            tried[name] = found.path
            return Search(found, tried)
        tried[name] = found
    faults = "; ".join(f"{name}: {fault}" for name, fault in tried.items())
    if chosen is not None:
        advice = "It has to be one program, without arguments"
        return Search(f"the C++ compiler does not work: {faults}. {advice}", tried)
    advice = f"Install g++ or clang++, or name a compiler in {VARIABLE}"
    return Search(f"no C++ compiler works here: {faults}. {advice}", tried)


def forget() -> None:
    """Look for the compiler anew at the next call: the environment has changed."""
    search.cache_clear()


def _candidates(chosen: str | None) -> dict[str, str]:
    """The programs to try: the name in messages, and the name or path of each."""
    if chosen is not None:
        return {f"{VARIABLE}={chosen}": os.path.expanduser(chosen)}
    named = os.environ.get("CXX")
    others = {name: name for name in NAMES}
    # Often it has arguments, or a launcher before it. It is never split: then it is no program.
    return {f"CXX={named}": os.path.expanduser(named), **others} if named else others


def _probe(path: str) -> Compiler | str:
    """A compiler that has compiled the probe, or the error in few words."""
    flags = (*FLAGS, *_native_flags())

    def tried(folder: Path) -> Compiler | str:
        built = compile_source(_PROBE, {}, (path, *flags), folder, PROBE_LIMIT)
        if isinstance(built, str):
            return built[:200]
        with built.open("rb") as file:
            library = load(file, ("throughtime_vector_bytes", "throughtime_probe"))
        try:
            width = library.throughtime_vector_bytes()
            works = library.throughtime_probe(7) == 7
        finally:
            unload(library)
        if not works:
            return "it compiles vectors wrongly"
        code, output = run_program([path, "--version"], folder, PROBE_LIMIT)
        version = output.partition("\n")[0].strip() if code == 0 else ""
        return Compiler(path, version or "unknown version", flags, width, _cpu())

    try:
        return make_in_a_folder(tried)
    except LibraryError as error:
        return (
            f"what it compiles cannot be loaded ({str(error)[:200]}; if programs may not run "
            f"from temporary folders, name another in {FOLDER})"
        )


def _native_flags() -> tuple[str, ...]:
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64", "i386", "i686"):
        return ("-march=native",)
    return ("-mcpu=native",) if machine.startswith(("arm", "aarch64")) else ()


def _cpu() -> str:
    """The model of this CPU, and a digest of everything that code for it depends on."""
    # x86, then arm; several lines of a kind where cores differ
    kinds = r"vendor_id|cpu family|model|model name|stepping|flags|Features|CPU \w+"
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: the machine's name keeps those of a network apart
        text = ""
    facts = sorted({*re.findall(rf"^(?:{kinds})\s*:.*$", text, re.M)})
    facts = facts or [platform.platform(), platform.node()]
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
    model = name[1].strip() if name else platform.machine()
    digest = hashlib.sha256("\n".join([platform.machine(), *facts]).encode()).hexdigest()
    return f"{model} ({digest[:12]})"
