"""The order of the steps of a graph: level by level, with all nodes of a level at once."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from throughtime.core.errors import StructureError


class Level(NamedTuple):
    """A level: nodes whose children are all computed.

    The steps before left a *live* state, of which a row is a node: the nodes of the level before
    that have children, then those that have none, then older ones that a later level reads.

    Attributes:
        inner: number of the level's nodes that have children.
        leaves: number of those that have none.
        sources: row of the live state that each edge reads.
        parents: row of each edge's parent among the level's inner nodes, in order.
        positions: place of each edge's child among the children of its parent, from 0.
        kept: rows of the live state that stay alive.
    """

    inner: int
    leaves: int
    sources: Int[Tensor, " edge"]
    parents: Int[Tensor, " edge"]
    positions: Int[Tensor, " edge"]
    kept: Int[Tensor, " kept"]


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """The levels of an acyclic graph, by the longest path from a root, the deepest level first.

    In a tree, all children of a level's nodes are in the level before: nothing older is alive.

    Attributes:
        leaves: numbers of the nodes without children, level by level.
        inner: numbers of the nodes with children, level by level.
        rows: place of each node in (leaves, inner).
        sources, parents, positions, kept: fields of `Level`, of all levels one after the other.
        counts: (inner nodes, leaves, edges, kept rows) of each level.

    Example:
        >>> edges = np.array([[0, 1], [0, 2], [2, 3]])  # 0 is the parent of 1 and 2
        >>> schedule = Schedule.of(4, edges, np.array([0, 1, 0]))
        >>> schedule.leaves.tolist(), schedule.inner.tolist(), schedule.depth
        ([3, 1], [2, 0], 3)
    """

    leaves: Int[Tensor, " leaf"]
    inner: Int[Tensor, " inner"]
    rows: Int[Tensor, " node"]
    sources: Int[Tensor, " edge"]
    parents: Int[Tensor, " edge"]
    positions: Int[Tensor, " edge"]
    kept: Int[Tensor, " kept"]
    counts: tuple[tuple[int, int, int, int], ...]

    @property
    def depth(self) -> int:
        """The number of levels."""
        return len(self.counts)

    @classmethod
    def of(
        cls,
        nodes: int,
        edges: Int[np.ndarray, "edge 2"],
        positions: Int[np.ndarray, " edge"],
    ) -> "Schedule":
        """Return the schedule of a graph.

        Arguments:
            nodes: number of nodes.
            edges: numbers of the parent and of the child of each edge, by parent and place.
            positions: place of each edge's child among the children of its parent, from 0.

        Raises:
            StructureError: edges form a cycle.
        """
        parents, children = edges[:, 0], edges[:, 1]
        degrees = np.bincount(parents, minlength=nodes)
        starts = np.cumsum(degrees) - degrees
        shared = bool((np.bincount(children, minlength=nodes) > 1).any())
        levels, depths = _levels(nodes, children, degrees, starts, shared)
        last_read = np.zeros(nodes, np.int64)
        if shared:
            last_read[:] = nodes
            np.minimum.at(last_read, children, depths[parents])
        place = np.zeros(nodes, np.int64)
        live = np.zeros(0, np.int64)
        found: list[list[np.ndarray]] = [[], [], [], [], []]
        counts: list[tuple[int, int, int, int]] = []
        for depth in reversed(range(len(levels))):
            of_level = levels[depth]
            inner, leaves = of_level[degrees[of_level] > 0], of_level[degrees[of_level] == 0]
            read = ranges(starts[inner], degrees[inner])
            stays = live[last_read[live] < depth] if shared else live[:0]
            owners = np.repeat(np.arange(len(inner)), degrees[inner])
            parts = (inner, leaves, place[children[read]], owners, place[stays])
            counts.append((len(inner), len(leaves), len(read), len(stays)))
            for of_levels, part in zip(found, parts, strict=True):
                of_levels.append(part)
            live = np.concatenate((inner, leaves, stays))
            place[live] = np.arange(len(live))
        all_inner, all_leaves, sources, owners, kept = map(_joined, found)
        read = ranges(starts[all_inner], degrees[all_inner])
        rows = np.empty(nodes, np.int64)
        rows[np.concatenate((all_leaves, all_inner))] = np.arange(nodes)
        return cls(
            torch.from_numpy(all_leaves),
            torch.from_numpy(all_inner),
            torch.from_numpy(rows),
            torch.from_numpy(sources),
            torch.from_numpy(owners),
            torch.from_numpy(positions[read]),
            torch.from_numpy(kept),
            tuple(counts),
        )

    def levels(self) -> Iterator[Level]:
        """Return the levels, the deepest first."""
        inner, leaves, edges, kept = zip(*self.counts, strict=True) if self.counts else ((),) * 4
        split = (
            self.sources.split(edges),
            self.parents.split(edges),
            self.positions.split(edges),
            self.kept.split(kept),
        )
        return (Level(*parts) for parts in zip(inner, leaves, *split, strict=True))

    def to(self, device: torch.device) -> "Schedule":
        """Return the schedule with its numbers on a device.

        Arguments:
            device: device of the states.
        """
        tensors = {
            field.name: getattr(self, field.name).to(device)
            for field in dataclasses.fields(self)
            if field.name != "counts"
        }
        return dataclasses.replace(self, **tensors)


def _levels(
    nodes: int, children: np.ndarray, degrees: np.ndarray, starts: np.ndarray, shared: bool
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the nodes of each level from the roots on, and the level of each node."""
    waiting = np.bincount(children, minlength=nodes)
    depths = np.full(nodes, -1)
    levels: list[np.ndarray] = []
    reached = np.flatnonzero(waiting == 0)
    while len(reached):
        depths[reached] = len(levels)
        levels.append(reached)
        reached = children[ranges(starts[reached], degrees[reached])]
        if shared:
            np.subtract.at(waiting, reached, 1)
            reached = np.unique(reached[waiting[reached] == 0])
    if (depths < 0).any():
        raise StructureError(
            "edges of a graph",
            got="the cycle " + " -> ".join(map(str, _cycle(children, degrees, starts, depths))),
            expected="edges from parents to children without a cycle",
        )
    return levels, depths


def _cycle(
    children: np.ndarray, degrees: np.ndarray, starts: np.ndarray, depths: np.ndarray
) -> list[int]:
    """Return the nodes of a cycle, the first one again at the end."""
    before = {}  # an unreached node has an unreached parent
    for parent in np.flatnonzero(depths < 0).tolist():
        for child in children[starts[parent] : starts[parent] + degrees[parent]].tolist():
            before[child] = parent
    node, path = next(node for node in before if depths[node] < 0), dict[int, None]()
    while node not in path:
        path[node] = None
        node = before[node]
    walked = [*path]
    return [node, *reversed(walked[walked.index(node) :])]


def ranges(starts: Int[np.ndarray, " k"], counts: Int[np.ndarray, " k"]) -> Int[np.ndarray, " n"]:
    """Return the whole numbers of several ranges, one after the other.

    Arguments:
        starts: first number of each range.
        counts: number of its numbers.

    Example:
        >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - ends + counts, counts) + np.arange(total)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
