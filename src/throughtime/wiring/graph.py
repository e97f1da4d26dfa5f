"""The graph of an architecture: which state reads which, and from how many steps ago."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, final

from throughtime.core.errors import ConfigurationError, DataError, UnknownNameError

INPUT, OUTPUT = "input", "output"


@dataclasses.dataclass(frozen=True, order=True)
class Edge:
    """One dependence: `target` at step t reads `source` at step t - lag.

    Attributes:
        source, target: names of states; "input" and "output" are the sequence's.
        lag: steps, at least 0.
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
        name: of the architecture.

    Attributes:
        edges: in their order.
        states: the hidden states, in the order in which they are computed within a step.

    Raises:
        ConfigurationError: no input or output; a state that the input does not reach, or that does
            not reach the output; no cycle; a cycle of zero lag, which is named; a negative lag; the
            same edge twice; an edge into the input or out of the output.

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
        self.edges = tuple(e if isinstance(e, Edge) else Edge(*e) for e in edges)
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
        """The edges into a state, in their order.

        Arguments:
            state: its name.
        """
        return [edge for edge in self.edges if edge.target == state]

    def build(self, input_size: int, hidden_size: int, cell: str = "tanh") -> Any:
        """The architecture as a cell, a `GraphCell`, so that it can be run and trained.

        Arguments:
            input_size: width of x_t, at least 1.
            hidden_size: number of units of each state, at least 1.
            cell: kind of units: "tanh", "relu", "lstm" or "gru".
        """
        from throughtime.wiring.graph_cell import GraphCell

        return GraphCell(self, input_size, hidden_size, cell=cell)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and sorted(self.edges) == sorted(other.edges)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.edges)))

    def __repr__(self) -> str:
        return f"Architecture({self.name!r}: {', '.join(map(str, self.edges))})"

    def _check_edges(self) -> None:
        for edge in self.edges:
            if not isinstance(edge.lag, int) or isinstance(edge.lag, bool) or edge.lag < 0:
                raise ConfigurationError(
                    f"lag of {edge.source} -> {edge.target}",
                    got=repr(edge.lag),
                    expected="a whole number of steps, at least 0",
                )
            if edge.target == INPUT or edge.source == OUTPUT:
                raise ConfigurationError(
                    self.name, got=str(edge), expected="nothing into the input or out of the output"
                )
        doubled = {str(edge) for edge in self.edges if self.edges.count(edge) > 1}
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


def _one(lag: int) -> list[tuple[Any, ...]]:
    del lag
    return [("input", "h"), ("h", "h", 1), ("h", "output")]


def _stacked(lag: int) -> list[tuple[Any, ...]]:
    del lag
    edges = [("input", "h1"), ("h1", "h2"), ("h2", "output")]
    return [*edges, ("h1", "h1", 1), ("h2", "h2", 1)]


def _and(*more: tuple[str, str]) -> Callable[[int], list[tuple[Any, ...]]]:
    """Two layers, and more edges of the lag."""
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
"""What is drawn in Zhang et al. (2016), by name: in words, and the edges for a lag."""


def architecture(name: str, lag: int = 21) -> Architecture:
    """One of the architectures of Zhang et al. (2016).

    Arguments:
        name: "sh", "st", "bu", "td"; "skip"; "variant-1" to "variant-4", the four of its last
            table, of which (2) to (4) are our reconstruction from their skip coefficients.
        lag: of the skips, where there are any; at least 2.

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


def read_architecture(path: str | Path) -> Architecture:
    """An architecture from a YAML or JSON file: {"edges": [["input", "h"], ["h", "h", 1], ...]}.

    Arguments:
        path: of the file.

    Raises:
        DataError: no such file, neither YAML nor JSON, or no list of edges.
        ConfigurationError: the edges are no architecture.
    """
    import yaml  # here, since files are read by few

    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))  # JSON is YAML, too
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(str(path), got=str(error), expected="a YAML or JSON file") from error
    edges = document.get("edges") if isinstance(document, dict) else None
    if not isinstance(edges, list) or not all(_is_edge(edge) for edge in edges):
        raise DataError(
            str(path), got="no list of edges", expected='{"edges": [[source, target, lag], ...]}'
        )
    return Architecture((tuple(edge) for edge in edges), str(document.get("name", Path(path).stem)))


def _is_edge(edge: object) -> bool:
    return (
        isinstance(edge, list)
        and len(edge) in (2, 3)
        and all(isinstance(end, str) for end in edge[:2])
    )
