"""An architecture from a YAML or JSON file; anything unclear is refused."""

import functools
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from throughtime.core.errors import DataError
from throughtime.wiring.graph import Architecture

MOST_BYTES = 1 << 18
"""Of a file: thousands of edges."""

_FORMAT = '{"edges": [[source, target, lag], ...]}, with a "name" if it has one'


def read_architecture(path: str | Path) -> Architecture:
    """An architecture from a YAML or JSON file: {"edges": [["input", "h"], ["h", "h", 1], ...]}.

    Numbers are decimal, as JSON has them: YAML's octal (010), sexagesimal (1:30) and dates are
    texts here, and yes, no, on and off may name states.

    Arguments:
        path: path of the file, at most 256 kB.

    Raises:
        DataError: no such file, neither YAML nor JSON, a key twice or unknown, or no list of edges.
        ConfigurationError: the edges are no architecture.
    """
    import yaml  # here, since files are read by few

    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise DataError(str(path), got=f"more than {MOST_BYTES} bytes", expected=_FORMAT)
        document = yaml.load(content.decode("utf-8-sig"), _loader())  # noqa: S506  # of plain values
    except RecursionError:  # without its traceback of a thousand calls
        raise DataError(
            str(path), got="lists within lists within lists", expected=_FORMAT
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(str(path), got=str(error), expected="a YAML or JSON file") from error
    if not isinstance(document, dict):
        raise DataError(str(path), got=reprlib.repr(document), expected=_FORMAT)
    for key in document:
        if key not in ("edges", "name"):
            raise DataError(str(path), got=f"the key {reprlib.repr(key)}", expected=_FORMAT)
    name = document.get("name", path.stem)
    if not isinstance(name, str):
        raise DataError(f"name in {path}", got=reprlib.repr(name), expected="a text")
    edges = document.get("edges")
    if not isinstance(edges, list):
        raise DataError(f"edges in {path}", got=reprlib.repr(edges), expected=_FORMAT)
    for edge in edges:
        if not _is_edge(edge):
            raise DataError(
                f"an edge in {path}", got=reprlib.repr(edge), expected="[source, target, lag]"
            )
    return Architecture((tuple(edge) for edge in edges), name)


def _is_edge(edge: object) -> bool:
    return (
        isinstance(edge, list)
        and len(edge) in (2, 3)
        and all(isinstance(end, str) for end in edge[:2])
    )


@functools.cache
def _loader() -> Any:
    """A loader of maps, lists, texts, whole numbers, true, false and null, and no key twice."""
    import yaml

    kept = (":seq", ":str", ":bool", ":null")
    constructors = yaml.SafeLoader.yaml_constructors
    loader: Any = type(
        "Loader",
        (yaml.SafeLoader,),
        {
            "yaml_implicit_resolvers": {},
            "yaml_constructors": {
                tag: build for tag, build in constructors.items() if (tag or ":str").endswith(kept)
            },
        },
    )

    def resolve(tag: str, pattern: str, first: Sequence[str]) -> None:
        loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)

    resolve("int", r"-?(0|[1-9][0-9]{0,17})$", "-0123456789")
    resolve("bool", r"(true|false)$", "tf")
    resolve("null", r"(null|~)?$", ["n", "~", ""])
    loader.add_constructor("tag:yaml.org,2002:map", _map)
    loader.add_constructor(
        "tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node))
    )
    return loader


def _map(loader: Any, node: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.value:
        name = loader.construct_object(key, deep=True)
        if not isinstance(name, str):
            raise ValueError(f"the key {reprlib.repr(name)}")
        if name in found:
            raise ValueError(f"the key {reprlib.repr(name)} twice")
        found[name] = loader.construct_object(value, deep=True)
    return found
