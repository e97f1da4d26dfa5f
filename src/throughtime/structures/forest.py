"""A batch of trees, or of acyclic graphs: inputs of nodes, edges, and the order of the steps."""

import dataclasses
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from throughtime.core.errors import DtypeError, ShapeError, StructureError
from throughtime.structures.schedule import Schedule, ranges


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Forest:
    """A batch of trees with an input at each node, as `Forest.of` makes it.

    The nodes of a tree follow each other. Edges are in any order.

    Attributes:
        inputs: (node, input) vectors, or (node,) int64 symbols, -1 where a node has none.
        sizes: (tree,) number of nodes of each tree.
        edges: (edge, 2) numbers of the parent and of the child, by parent and place.
        positions: (edge,) place of the child among the children of its parent, from 0.
        roots: (tree,) number of the node without a parent.
        arity: largest number of children, gaps in `positions` included.
        inputs_inside: If False, no node with children has an input.
        schedule: order of the steps.

    Example:
        >>> # one tree, 0 is the parent of 1 and 2; another of two nodes
        >>> edges = torch.tensor([[0, 1], [0, 2], [3, 4]])
        >>> forest = Forest.of(torch.ones(5, 7), edges, [3, 2])
        >>> forest.size, forest.roots.tolist(), forest.arity
        (2, [0, 3], 2)
    """

    inputs: Shaped[Tensor, "node *input"]
    sizes: Int[Tensor, " tree"]
    edges: Int[Tensor, "edge 2"]
    positions: Int[Tensor, " edge"]
    roots: Int[Tensor, " tree"]
    arity: int
    inputs_inside: bool
    schedule: Schedule

    @classmethod
    def of(
        cls,
        inputs: Shaped[Tensor, "node *input"],
        edges: Int[Tensor, "edge 2"],
        sizes: Sequence[int] | Int[Tensor, " tree"] | None = None,
        *,
        positions: Int[Tensor, " edge"] | None = None,
        shared: bool = False,
    ) -> "Forest":
        """Return the trees of edges.

        Arguments:
            inputs: (node, input) vectors, or (node,) int64 symbols, -1 where a node has none.
            edges: (edge, 2) numbers of the parent and of the child, in any order.
            sizes: number of nodes of each tree; None for one tree.
            positions: (edge,) place of the child among the children of its parent, from 0; None
                for the order of the nodes' numbers.
            shared: If True, a node may have several parents: the structures are acyclic graphs, in
                which a state is computed once and read by each parent (Frasconi et al. 1997).

        Raises:
            StructureError: a cycle, two parents, a tree without nodes, without a root or with
                several, an edge between two trees, or two children in one place.
            ShapeError, DtypeError: a tensor of another shape, or of no whole numbers.
        """
        pairs, lengths, places = _numbers(inputs, edges, sizes, positions)
        _check_membership(pairs, lengths)
        if positions is None:
            places = _places(pairs)
        _check_positions(pairs, places)
        if not shared:
            _check_parents(pairs, len(inputs))
        order = np.lexsort((places, pairs[:, 0]))
        return _built(inputs, lengths, pairs[order], places[order])

    @property
    def size(self) -> int:
        """The number of trees."""
        return len(self.sizes)

    def select(self, trees: Sequence[int] | Int[np.ndarray, " tree"]) -> "Forest":
        """Return some of the trees as a batch.

        Arguments:
            trees: numbers of trees, in any order, also several times.

        Example:
            >>> forest = Forest.of(torch.arange(3), torch.tensor([[0, 1]]), [2, 1])
            >>> forest.select([1, 0, 0]).inputs.tolist()
            [2, 0, 1, 0, 1]
        """
        chosen = np.asarray(trees, np.int64)
        sizes, edges = self.sizes.numpy(), self.edges.numpy()
        ends = np.cumsum(sizes)
        first = (ends - sizes)[chosen]
        before = np.searchsorted(edges[:, 0], np.concatenate(([0], ends)))  # edges are by parent
        counts = np.diff(before)[chosen]
        taken = ranges(before[chosen], counts)
        lengths = sizes[chosen]
        moved = np.cumsum(lengths) - lengths - first
        return _built(
            self.inputs[self.nodes_of(chosen)],
            lengths,
            edges[taken] + np.repeat(moved, counts)[:, None],
            self.positions.numpy()[taken],
        )

    def nodes_of(self, trees: Sequence[int] | Int[np.ndarray, " tree"]) -> Int[Tensor, " node"]:
        """Return the numbers of the nodes of some trees.

        Arguments:
            trees: numbers of trees, in any order, also several times.
        """
        sizes, chosen = self.sizes.numpy(), np.asarray(trees, np.int64)
        return torch.from_numpy(ranges((np.cumsum(sizes) - sizes)[chosen], sizes[chosen]))

    @staticmethod
    def joined(forests: Sequence["Forest"]) -> "Forest":
        """Return the trees of several batches as one batch.

        Arguments:
            forests: batches with inputs of one kind and width.
        """
        starts = np.cumsum([0, *(len(each.inputs) for each in forests)])
        return _built(
            torch.cat([each.inputs for each in forests]),
            np.concatenate([each.sizes.numpy() for each in forests]),
            np.concatenate(
                [each.edges.numpy() + k for each, k in zip(forests, starts, strict=False)]
            ),
            np.concatenate([each.positions.numpy() for each in forests]),
        )

    def with_inputs(self, inputs: Shaped[Tensor, "node *input"]) -> "Forest":
        """Return the same trees with other inputs, at the same nodes.

        Arguments:
            inputs: vectors or symbols, one for each node.

        Raises:
            ShapeError: another number of nodes.
        """
        _check_count(inputs, len(self.inputs))
        return dataclasses.replace(self, inputs=inputs)

    def to(self, device: torch.device) -> "Forest":
        """Return the batch on a device.

        Arguments:
            device: device of the model.
        """
        names = ("inputs", "sizes", "edges", "positions", "roots", "schedule")
        return dataclasses.replace(self, **{name: getattr(self, name).to(device) for name in names})


def _built(inputs: Tensor, sizes: np.ndarray, edges: np.ndarray, positions: np.ndarray) -> Forest:
    """Return the batch of edges by parent and place that are known to lie within their trees."""
    schedule = Schedule.of(len(inputs), edges, positions)
    roots = np.flatnonzero(np.bincount(edges[:, 1], minlength=len(inputs)) == 0)
    first = np.cumsum(sizes) - sizes
    of_tree = np.searchsorted(first, roots, side="right") - 1
    if len(roots) != len(sizes):
        tree = int(np.flatnonzero(np.bincount(of_tree, minlength=len(sizes)) != 1)[0])
        several = ", ".join(map(str, roots[of_tree == tree]))
        raise StructureError(
            f"tree {tree}", got=f"the roots {several}", expected="one node without a parent"
        )
    inside = inputs.dim() > 1 or bool((inputs[schedule.inner] >= 0).any())
    return Forest(
        inputs,
        torch.from_numpy(sizes),
        torch.from_numpy(edges),
        torch.from_numpy(positions),
        torch.from_numpy(roots),
        int(positions.max()) + 1 if len(positions) else 0,
        inside,
        schedule,
    )


def _numbers(
    inputs: Tensor, edges: Tensor, sizes: object, positions: Tensor | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return edges, sizes and positions as arrays of whole numbers."""
    lengths = torch.as_tensor([len(inputs)] if sizes is None else sizes)
    lengths = lengths if len(lengths) else lengths.long()
    given = {"edges": edges, "sizes": lengths}
    if positions is not None:
        given["positions"] = positions
    for name, tensor in given.items():
        if tensor.is_floating_point() or tensor.dtype is torch.bool:
            raise DtypeError(f"{name} of trees", got=tensor.dtype, expected="whole numbers")
    if edges.dim() != 2 or edges.shape[1] != 2:
        raise ShapeError("edges of trees", got=tuple(edges.shape), expected="(edge, 2)")
    if positions is not None and positions.shape != (len(edges),):
        raise ShapeError("positions of trees", got=tuple(positions.shape), expected=(len(edges),))
    places = edges[:, 0] if positions is None else positions
    arrays = [tensor.detach().cpu().long().numpy() for tensor in (edges, lengths, places)]
    for tree in np.flatnonzero(arrays[1] < 1)[:1]:
        raise StructureError(
            f"tree {tree}", got=f"{arrays[1][tree]} nodes", expected="at least one"
        )
    _check_count(inputs, int(arrays[1].sum()))
    return arrays[0], arrays[1], arrays[2]


def _check_count(inputs: Tensor, nodes: int) -> None:
    if inputs.dim() == 0 or len(inputs) != nodes:
        raise ShapeError(
            "inputs of trees", got=f"shape {tuple(inputs.shape)}", expected=f"({nodes} nodes, ...)"
        )


def _check_membership(edges: np.ndarray, sizes: np.ndarray) -> None:
    """Raise StructureError unless both nodes of each edge exist and lie in one tree."""
    nodes = int(sizes.sum())
    for edge in np.flatnonzero(((edges < 0) | (edges >= nodes)).any(1))[:1]:
        raise StructureError(
            f"edge {edge} of trees", got=_edge(edges[edge]), expected=f"nodes from 0 to {nodes - 1}"
        )
    tree = np.searchsorted(np.cumsum(sizes), edges, side="right")
    for edge in np.flatnonzero(tree[:, 0] != tree[:, 1])[:1]:
        raise StructureError(
            f"edge {edge} of trees",
            got=f"{_edge(edges[edge])}, from tree {tree[edge, 0]} to tree {tree[edge, 1]}",
            expected="two nodes of one tree",
        )


def _check_parents(edges: np.ndarray, nodes: int) -> None:
    """Raise StructureError if a node has two parents."""
    for node in np.flatnonzero(np.bincount(edges[:, 1], minlength=nodes) > 1)[:1]:
        parents = edges[edges[:, 1] == node, 0]
        raise StructureError(
            f"node {node} of trees",
            got=f"the parents {', '.join(map(str, parents))}",
            expected="one parent",
            fix="Acyclic graphs with shared nodes need shared=True.",
        )


def _check_positions(edges: np.ndarray, positions: np.ndarray) -> None:
    """Raise StructureError if two children have the same place, or one has a place below 0."""
    order = np.lexsort((positions, edges[:, 0]))
    parents, places = edges[order, 0], positions[order]
    same = np.flatnonzero((parents[1:] == parents[:-1]) & (places[1:] == places[:-1]))
    for edge in (*order[np.flatnonzero(places < 0)[:1]], *order[same[:1]]):
        raise StructureError(
            f"edge {edge} of trees",
            got=f"{_edge(edges[edge])} at place {positions[edge]}",
            expected="places from 0, each child of a parent at another one",
        )


def _edge(edge: np.ndarray) -> str:
    return f"parent {edge[0]}, child {edge[1]}"


def _places(edges: np.ndarray) -> np.ndarray:
    """Return the place of each child among the children of its parent, in order of numbers."""
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    parents = edges[order, 0]
    rank = np.arange(len(edges)) - np.searchsorted(parents, parents)
    places = np.empty(len(edges), np.int64)
    places[order] = rank
    return places
