"""The complexity of an architecture: recurrent depth, feedforward depth, skip coefficient."""

import dataclasses
from fractions import Fraction
from typing import final

import numpy as np

from throughtime.core.errors import ConfigurationError
from throughtime.wiring.graph import INPUT, OUTPUT, Architecture, Edge


@dataclasses.dataclass(frozen=True)
class Complexity:
    """The measures of Zhang et al. (2016), exact, with cycles and a path that have them.

    Attributes:
        recurrent_depth: d_r: the largest number of edges a step over cycles.
        feedforward_depth: d_f: the most edges from input to output beyond d_r for each step that
            the path takes.
        skip_coefficient: s: the largest number of steps an edge over cycles.
        deepest_cycle: cycle whose edges over its lags are d_r.
        longest_path: path whose edges are d_f beyond d_r times its lags.
        fastest_cycle: cycle whose lags over its edges are s.
    """

    recurrent_depth: Fraction
    feedforward_depth: Fraction
    skip_coefficient: Fraction
    deepest_cycle: tuple[Edge, ...]
    longest_path: tuple[Edge, ...]
    fastest_cycle: tuple[Edge, ...]


def complexity(architecture: Architecture) -> Complexity:
    """Measure an architecture, in polynomial time.

        d_r = max over cycles of length / lag        1 / s = min over cycles of length / lag
        d_f = max over paths from input to output of length - d_r * lag

    A cycle ratio is found by Newton's iteration (Dinkelbach 1967): as long as some cycle beats the
    ratio so far, by Bellman and Ford's search for a positive one, its own ratio is the next.

    Arguments:
        architecture: checked, so that every cycle has a lag.

    Returns:
        Exact fractions, with a cycle or path that has each.

    Example:
        >>> from throughtime.wiring import architecture
        >>> found = complexity(architecture("td"))
        >>> found.recurrent_depth, found.feedforward_depth, found.skip_coefficient
        (Fraction(2, 1), Fraction(3, 1), Fraction(1, 1))
        >>> [str(edge) for edge in found.deepest_cycle]
        ['h1 -> h2', 'h2 -> h1 (lag 1)']

    Source: S. Zhang et al., "Architectural complexity measures of recurrent neural networks", NIPS
    2016.
    """
    search = _Search(architecture)
    deepest = search.best_cycle(1)
    fastest = search.best_cycle(-1)
    depth = _ratio(deepest)
    path = search.longest_path(depth)
    return Complexity(
        recurrent_depth=depth,
        feedforward_depth=len(path) - depth * sum(edge.lag for edge in path),
        skip_coefficient=1 / _ratio(fastest),
        deepest_cycle=deepest,
        longest_path=path,
        fastest_cycle=fastest,
    )


def _ratio(cycle: tuple[Edge, ...]) -> Fraction:
    return Fraction(len(cycle), sum(edge.lag for edge in cycle))


@final
class _Search:
    """Longest walks of an architecture, all edges at once; in whole numbers, so exact."""

    def __init__(self, architecture: Architecture):
        nodes = list(architecture.graph)
        place = {node: k for k, node in enumerate(nodes)}
        self.count, self.start, self.end = len(nodes), place[INPUT], place[OUTPUT]
        # by target, so that the best edge into each node is the best of one stretch
        self.edges = sorted(architecture.edges, key=lambda edge: place[edge.target])
        self.source = np.array([place[edge.source] for edge in self.edges])
        target = np.array([place[edge.target] for edge in self.edges])
        self.lag = np.array([edge.lag for edge in self.edges], dtype=np.int64)
        self.targets, self.first = np.unique(target, return_index=True)
        self.stretch = np.repeat(
            np.arange(len(self.targets)), np.diff([*self.first, len(self.edges)])
        )

    def best_cycle(self, sign: int) -> tuple[Edge, ...]:
        """A cycle of the largest (sign 1) or smallest (-1) number of edges a step."""
        best: tuple[Edge, ...] = ()
        # below any ratio, or above: the first cycle that is found beats it
        ratio = Fraction(0) if sign > 0 else Fraction(len(self.edges) + 1)
        while True:
            weights = sign * (ratio.denominator - ratio.numerator * self.lag)
            cycle = self._positive_cycle(weights)
            if not cycle:
                return best
            best, ratio = cycle, _ratio(cycle)

    def longest_path(self, depth: Fraction) -> tuple[Edge, ...]:
        """A path from input to output of the most edges beyond `depth` a step."""
        weights = depth.denominator - depth.numerator * self.lag
        length = np.full(self.count, -(2**62), dtype=np.int64)
        length[self.start] = 0
        _, into = self._settle(length, weights)
        path: list[Edge] = []
        node = self.end
        while node != self.start:
            edge = into[node]
            path.append(self.edges[edge])
            node = int(self.source[edge])
        return tuple(reversed(path))

    def _positive_cycle(self, weights: np.ndarray) -> tuple[Edge, ...]:
        cycle, _ = self._settle(np.zeros(self.count, dtype=np.int64), weights)
        return cycle

    def _settle(
        self, length: np.ndarray, weights: np.ndarray
    ) -> tuple[tuple[Edge, ...], np.ndarray]:
        """Bellman and Ford's rounds: until nothing is longer, or a cycle has come about.

        Returns:
            the cycle, or none; and the last edge of each node's longest walk, -1 without one.
        """
        into = np.full(self.count, -1)
        for turn in range(1, self.count + 2):
            reach = length[self.source] + weights
            best = np.maximum.reduceat(reach, self.first)
            longer = best > length[self.targets]
            if not longer.any():
                return (), into
            # the first edge of each stretch that has its best
            wins = np.flatnonzero(reach == best[self.stretch])
            _, one = np.unique(self.stretch[wins], return_index=True)
            chosen = wins[one]
            length[self.targets[longer]] = best[longer]
            into[self.targets[longer]] = chosen[longer]
            if turn % 8 == 0 or turn > self.count:
                cycle = self._cycle_of(into)
                if cycle:
                    return cycle, into
        raise ConfigurationError("complexity", got="a walk that never ends", expected="a cycle")

    def _cycle_of(self, into: np.ndarray) -> tuple[Edge, ...]:
        """A cycle among the last edges of the longest walks; () where there is none."""
        # one node more stands for the end of a walk; by doubling, as far back as there are nodes
        back = np.append(np.where(into >= 0, self.source[into], self.count), self.count)
        far = back
        for _ in range(self.count.bit_length()):
            far = far[far]
        endless = far[far < self.count]
        if len(endless) == 0:
            return ()
        first = node = int(endless[0])  # what is reached after that many steps is on a cycle
        cycle: list[Edge] = []
        while not cycle or node != first:
            cycle.append(self.edges[into[node]])
            node = int(back[node])
        return tuple(reversed(cycle))
