"""`throughtime compiler`: what the native engine compiles with, and where it keeps the results."""

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from throughtime.cli.arguments import flag, parse
from throughtime.cli.output import show, show_json
from throughtime.core.errors import EngineRefusalError

if TYPE_CHECKING:
    from rich.table import Table

    from throughtime.engines.cpp.compiler import Compiler, Search

_CHECK = 'extern "C" int number() { return NUMBER; }\n'


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Show the C++ compiler that the native engine uses, or why there is none, and the cache of
    compiled code. The variable THROUGHTIME_CXX names another compiler, or none; THROUGHTIME_CACHE
    another folder for the cache."""

    check: bool = flag("Compile, keep, load and run a tiny library.")
    clear: bool = flag("First remove all libraries from the cache.")
    json: bool = flag("Print one JSON object.")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "compiler", words)

    from throughtime.engines.cpp import cache
    from throughtime.engines.cpp.compiler import search

    found: dict[str, Any] = {}
    if arguments.clear:
        found["removed"] = cache.clear_cache()
    how = search()
    if arguments.check:
        found["check"] = _check(how.found)
    found = _compiler(how) | {"cache": _cache()} | found
    if arguments.json:
        show_json(found)
    else:
        show(_table(found))
    return 0


def _compiler(how: "Search") -> dict[str, Any]:
    if isinstance(how.found, str):
        return {"compiler": None, "reason": how.found, "tried": how.tried}
    return {"compiler": dataclasses.asdict(how.found), "reason": None, "tried": how.tried}


def _cache() -> dict[str, Any]:
    from throughtime.engines.cpp import cache

    problem = None
    try:
        opened = cache.open_cache()
        if isinstance(opened, str):
            problem = f"{opened}: nothing is kept, each process compiles anew"
    except cache.CacheFolderError as error:
        problem = str(error)
    entries = cache.cache_entries()
    return {
        "folder": str(cache.cache_folder()),
        "problem": problem,
        "libraries": len(entries),
        "bytes": sum(entry.size() for entry in entries),
    }


def _check(compiler: "Compiler | str") -> dict[str, Any]:
    """Build a library that no run before has built, and take it out of the cache again."""
    from throughtime.engines.cpp import cache
    from throughtime.engines.cpp.library import builds, load_library

    if isinstance(compiler, str):
        raise EngineRefusalError(f"engine 'native' cannot: {compiler}")
    number = secrets.randbelow(1 << 30)
    library = load_library(_CHECK, {"NUMBER": number}, compiler)
    if library.number() != number:
        raise EngineRefusalError(
            f"{compiler.path} compiles wrongly: a library returns wrong numbers"
        )
    build = builds()[-1]
    entry = cache.Entry(cache.cache_folder(), build.key)
    kept = entry.valid()
    if kept:
        entry.remove()
    return {"seconds": build.seconds, "kept": kept}


def _table(found: Mapping[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    rows: dict[str, str] = {}
    if found["compiler"] is None:
        rows["compiler"] = f"none: {found['reason']}"
    else:
        compiler = found["compiler"]
        rows |= {
            "compiler": compiler["path"],
            "version": compiler["version"],
            "flags": " ".join(compiler["flags"]),
            "vectors": f"{compiler['vector_bytes']} bytes",
            "cpu": compiler["cpu"],
        }
    if len(found["tried"]) > 1:
        rows["tried"] = "\n".join(f"{name}: {what}" for name, what in found["tried"].items())
    kept = found["cache"]
    rows["cache"] = kept["folder"]
    if kept["problem"] is not None:
        rows["problem"] = kept["problem"]
    removed = f"; {found['removed']} removed" if "removed" in found else ""
    rows["libraries"] = f"{kept['libraries']} ({_size(kept['bytes'])}){removed}"
    if "check" in found:
        check = found["check"]
        where = "kept in the cache" if check["kept"] else "not kept"
        rows["check"] = f"compiled, {where}, loaded and run in {check['seconds']:.2f} s"
    table = Table.grid(padding=(0, 2))
    for name, text in rows.items():
        table.add_row(Text(name, style="bold"), Text(text, overflow="fold"))
    return table


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
