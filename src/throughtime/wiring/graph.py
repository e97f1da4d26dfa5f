"""The graph of an architecture: its states, and the edges between them with their lags."""

import dataclasses
import functools
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, final

from throughtime.core.errors import ConfigurationError, DataError, UnknownNameError

INPUT, OUTPUT = "input", "output"

MOST_LAG = 1_000_000
"""Steps of an edge, at most."""


@dataclasses.dataclass(frozen=True, order=True)
class Edge:
    """One dependence: `target` at step t reads `source` at step t - lag.

    Attributes:
        source, target: names of states; "input" and "output" are the sequence's.
        lag: steps, 0 to 1,000,000.
    """

    source: str
    target: str
    lag: int = 0

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}" + (f" (lag {self.lag})" if self.lag else "")


@final
class Architecture:
    """A cyclic directed multigraph with time lags (Zhang et al. 2016), with period number 1.

    Arguments:
        edges: each an `Edge`, or (source, target) or (source, target, lag). Each stands for one
            product of a parameter matrix with a state.
        name: name of the architecture.

    Attributes:
        edges: all edges, in their order.
        states: the hidden states, in the order in which they are computed within a step.

    Raises:
        ConfigurationError: no input or output; a state that the input does not reach, or that does
            not reach the output; no cycle; a cycle of zero lag, which is named; a lag out of range;
            the same edge twice; a name that is empty, or has blanks around it or characters that
            cannot be printed; an edge into the input or out of the output.

    Example:
        >>> skip = Architecture([("input", "h"), ("h", "h", 1), ("h", "h", 5), ("h", "output")])
        >>> skip.states
        ('h',)

    Source: S. Zhang et al., "Architectural complexity measures of recurrent neural networks", NIPS
    2016.

    Differs from the paper in: no period number above 1, and no lag below 0 (our choice).
    """

    def __init__(self, edges: Iterable[Edge | tuple[Any, ...]], name: str = "architecture"):
        self.name = name
        self.edges = tuple(map(_as_edge, edges))
        self._check_edges()
        import networkx as nx  # here, since `import throughtime` shall not take its time

        self.graph = nx.MultiDiGraph(name=name)
        for edge in self.edges:
            self.graph.add_edge(edge.source, edge.target, key=edge.lag, lag=edge.lag)
        self._check_reach()
        within = nx.DiGraph((e.source, e.target) for e in self.edges if e.lag == 0)
        within.add_nodes_from(self.graph)
        try:
            loop = nx.find_cycle(within)
        except nx.NetworkXNoCycle:
            pass
        else:
            names = " -> ".join([*(source for source, _ in loop), loop[0][0]])
            raise ConfigurationError(
                name,
                got=f"a cycle of zero lag: {names}",
                expected="a delay in every cycle: a state cannot need itself within a step",
            )
        if nx.is_directed_acyclic_graph(self.graph):
            raise ConfigurationError(
                name, got="no cycle", expected="at least one, or it is not recurrent"
            )
        order = nx.lexicographical_topological_sort(within, key=list(self.graph).index)
        self.states = tuple(node for node in order if node not in (INPUT, OUTPUT))

    def incoming(self, state: str) -> list[Edge]:
        """Return the edges into a state, in their order.

        Arguments:
            state: its name.
        """
        return [edge for edge in self.edges if edge.target == state]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and sorted(self.edges) == sorted(other.edges)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.edges)))

    def __repr__(self) -> str:
        return f"Architecture({self.name!r}: {', '.join(map(str, self.edges))})"

    def _check_edges(self) -> None:
        for edge in self.edges:
            if edge.target == INPUT or edge.source == OUTPUT:
                raise ConfigurationError(
                    self.name, got=str(edge), expected="nothing into the input or out of the output"
                )
        doubled = {str(edge) for edge, count in Counter(self.edges).items() if count > 1}
        if doubled:
            raise ConfigurationError(
                self.name, got=f"{', '.join(sorted(doubled))} more than once", expected="each once"
            )

    def _check_reach(self) -> None:
        for end in (INPUT, OUTPUT):
            if end not in self.graph:
                raise ConfigurationError(self.name, got=f"no {end!r}", expected="an edge with it")
        import networkx as nx

        reached = nx.descendants(self.graph, INPUT) | {INPUT}
        needed = nx.ancestors(self.graph, OUTPUT) | {OUTPUT}
        for node in self.graph:
            if node not in reached:
                raise ConfigurationError(
                    self.name, got=f"{node!r}, which the input does not reach", expected="a path"
                )
            if node not in needed:
                raise ConfigurationError(
                    self.name, got=f"{node!r}, which the output does not read", expected="a path"
                )


def _as_edge(edge: Edge | tuple[Any, ...]) -> Edge:
    parts = dataclasses.astuple(edge) if isinstance(edge, Edge) else edge
    if not isinstance(parts, tuple | list) or len(parts) not in (2, 3):
        raise ConfigurationError(
            "an edge", got=reprlib.repr(parts), expected="(source, target) or (source, target, lag)"
        )
    (source, target), lag = parts[:2], parts[2] if len(parts) == 3 else 0
    for state in (source, target):
        if (
            not isinstance(state, str)
            or not state.isprintable()
            or not state
            or state != state.strip()
        ):
            raise ConfigurationError(
                "a state",
                got=reprlib.repr(state),
                expected="a name that can be printed, without blanks around it",
            )
    if not isinstance(lag, int) or isinstance(lag, bool) or not 0 <= lag <= MOST_LAG:
        raise ConfigurationError(
            f"lag of {source} -> {target}",
            got=reprlib.repr(lag),
            expected=f"a whole number of steps, 0 to {MOST_LAG:,}",
        )
    return Edge(source, target, lag)


def _one(lag: int) -> list[tuple[Any, ...]]:
    del lag
    return [("input", "h"), ("h", "h", 1), ("h", "output")]


def _stacked(lag: int) -> list[tuple[Any, ...]]:
    del lag
    edges = [("input", "h1"), ("h1", "h2"), ("h2", "output")]
    return [*edges, ("h1", "h1", 1), ("h2", "h2", 1)]


def _and(*more: tuple[str, str]) -> Callable[[int], list[tuple[Any, ...]]]:
    """Return a function from a lag to two layers with more edges of that lag."""
    return lambda lag: [*_stacked(lag), *((*ends, lag) for ends in more)]


NAMED: dict[str, tuple[str, Callable[[int], list[tuple[Any, ...]]]]] = {
    "sh": ("one hidden layer", _one),
    "st": ("two layers, stacked", _stacked),
    "bu": ("stacked, and h2 also reads h1 of a step ago", lambda _: _and(("h1", "h2"))(1)),
    "td": ("stacked, and h1 also reads h2 of a step ago", lambda _: _and(("h2", "h1"))(1)),
    "skip": (
        "one layer that also reads itself of LAG steps ago",
        lambda lag: [*_one(lag), ("h", "h", lag)],
    ),
    "variant-1": ("(1) of the last table: stacked", _stacked),
    "variant-2": (
        "(2), our reconstruction: h2 also reads h1 of LAG steps ago",
        _and(("h1", "h2")),
    ),
    "variant-3": (
        "(3), our reconstruction: h1 also reads h2 of LAG steps ago",
        _and(("h2", "h1")),
    ),
    "variant-4": (
        "(4), our reconstruction: each layer also reads itself of LAG steps ago",
        _and(("h1", "h1"), ("h2", "h2")),
    ),
}
"""The drawings of Zhang et al. (2016), by name: a description, and the edges for a lag."""


def architecture(name: str, lag: int = 21) -> Architecture:
    """Return one of the architectures of Zhang et al. (2016).

    Arguments:
        name: "sh", "st", "bu", "td"; "skip"; "variant-1" to "variant-4", the four of its last
            table, of which (2) to (4) are our reconstruction from their skip coefficients.
        lag: lag of the skips, where there are any; at least 2.

    Raises:
        UnknownNameError: no such name.
        ConfigurationError: a lag below 2.

    Example:
        >>> architecture("td").edges[-1]
        Edge(source='h2', target='h1', lag=1)
    """
    if name not in NAMED:
        raise UnknownNameError("architecture", name, NAMED)
    if lag < 2:
        raise ConfigurationError("lag", got=lag, expected="at least 2, or it is no skip")
    return Architecture(NAMED[name][1](lag), name)


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
