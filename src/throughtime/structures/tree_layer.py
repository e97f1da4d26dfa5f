"""The layer over trees: one step for all nodes of a level."""

import abc
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.cell import check_size
from throughtime.core.errors import DtypeError, ShapeError
from throughtime.core.state import State, map_state
from throughtime.structures.forest import Forest


@final
class TreeOutput(NamedTuple):
    """The outputs of a layer over trees.

    Attributes:
        nodes: output of each node, in the order of the inputs.
        roots: output of each tree's root.
    """

    nodes: Float[Tensor, "node hidden"]
    roots: Float[Tensor, "tree hidden"]


@final
class Children(NamedTuple):
    """The states of the children of a level's nodes, one row for each edge.

    Attributes:
        state: states of the children.
        parents: row of each child's parent, in order.
        positions: place of each child among the children of its parent, from 0.
        count: number of parents.
    """

    state: State
    parents: Int[Tensor, " edge"]
    positions: Int[Tensor, " edge"]
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]

    def of_parents(self, values: Float[Tensor, "parent width"]) -> Float[Tensor, "edge width"]:
        """Return the value of each child's parent."""
        return values.index_select(0, self.parents)

    def summed(self, values: Float[Tensor, "edge width"]) -> Float[Tensor, "parent width"]:
        """Return the sum over the children of each parent."""
        zeros = values.new_zeros(self.count, values.shape[1])
        return zeros.index_add(0, self.parents, values)

    def in_places(
        self, values: Float[Tensor, "edge width"], arity: int
    ) -> Float[Tensor, "parent place width"]:
        """Return the children of each parent by their places, 0 where there is none."""
        zeros = values.new_zeros(self.count * arity, values.shape[1])
        rows = self.parents * arity + self.positions
        return zeros.index_copy(0, rows, values).view(self.count, arity, values.shape[1])


class TreeLayer(nn.Module, abc.ABC):
    """The base of layers over trees: each node's state follows from its input and its children.

        state_j = step(W x_j + b, states of the children of j)

    All nodes without children are computed at once, then level after level, over all trees of the
    batch, without recursion. A subclass supplies `project` and `step`.

    Attributes:
        input_size: width of x_j.
        hidden_size: width of h_j.
        arity: largest number of children; None for any number.
    """

    input_size: int
    hidden_size: int
    arity: int | None

    def __init__(self, input_size: int, hidden_size: int, arity: int | None):
        super().__init__()
        check_size("hidden_size", hidden_size)
        check_size("input_size", input_size)
        if arity is not None:
            check_size("arity", arity)
        self.input_size, self.hidden_size, self.arity = input_size, hidden_size, arity

    @abc.abstractmethod
    def project(self, x: Float[Tensor, "node input"]) -> Float[Tensor, "node projected"]:
        """Return all that a step needs of x_j and not of the children.

        Arguments:
            x: inputs of nodes.
        """

    @abc.abstractmethod
    def step(self, projected: Float[Tensor, "node projected"], children: Children | None) -> State:
        """Return the states of nodes, `h` the first field.

        Arguments:
            projected: rows of `project`, one for each node.
            children: states of the children; None for nodes that have none.
        """

    def forward(self, trees: Forest) -> TreeOutput:
        """Return the outputs of all nodes, and of the roots.

        Arguments:
            trees: batch of trees, or of acyclic graphs, with vectors at the nodes.

        Raises:
            ShapeError: inputs of another width, or a node with too many children.
            DtypeError: inputs of another dtype than the weights.
        """
        nodes = self.states(trees).h
        return TreeOutput(nodes, nodes.index_select(0, trees.roots))

    def states(self, trees: Forest) -> State:
        """Return the states of all nodes, in the order of the inputs.

        Arguments:
            trees: batch of trees, or of acyclic graphs, with vectors at the nodes.

        Raises:
            ShapeError: inputs of another width, or a node with too many children.
            DtypeError: inputs of another dtype than the weights.
        """
        self._check(trees)
        schedule = trees.schedule
        leaves = self.step(self.project(trees.inputs.index_select(0, schedule.leaves)), None)
        found = [leaves]
        live = leaves
        inner = self._inner(trees).split([count[0] for count in schedule.counts])
        fields = [field.split([count[1] for count in schedule.counts]) for field in leaves]
        for number, level in enumerate(schedule.levels()):
            parts = [type(leaves)(*(field[number] for field in fields))]
            if level.inner:
                read = _rows(live, level.sources)
                children = Children(read, level.parents, level.positions, level.inner)
                found.append(self.step(inner[number], children))
                parts.insert(0, found[-1])
            if len(level.kept):
                parts.append(_rows(live, level.kept))
            parts = [part for part in parts if len(part.h)]
            live = parts[0] if len(parts) == 1 else map_state(_cat, *parts)
        return _rows(map_state(_cat, *found), schedule.rows)

    def _inner(self, trees: Forest) -> Tensor:
        """Return the projected inputs of the nodes with children."""
        inner = trees.schedule.inner
        if trees.inputs_inside:
            return self.project(trees.inputs.index_select(0, inner))
        return self.project(trees.inputs.new_zeros(1, self.input_size)).expand(len(inner), -1)

    def _check(self, trees: Forest) -> None:
        x, like = trees.inputs, next(self.parameters())
        if x.dim() != 2 or x.shape[1] != self.input_size:
            raise ShapeError(
                f"inputs of {type(self).__name__}",
                got=f"shape {tuple(x.shape)}",
                expected=f"(node, {self.input_size})",
                fix="Symbols need an embedding: trees.with_inputs(embedding(trees.inputs))."
                if x.dim() == 1
                else "",
            )
        if x.dtype is not like.dtype and not torch.is_autocast_enabled(x.device.type):
            raise DtypeError(
                f"inputs of {type(self).__name__}", got=x.dtype, expected=f"{like.dtype}"
            )
        if self.arity is not None and trees.arity > self.arity:
            edge = int((trees.positions >= self.arity).nonzero()[0])
            raise ShapeError(
                f"node {int(trees.edges[edge, 0])} of trees",
                got=f"a child at place {int(trees.positions[edge])}",
                expected=f"places from 0 to {self.arity - 1} (arity={self.arity})",
            )


def uniform(
    bound: float, device: torch.device | str | None, dtype: torch.dtype | None, *shape: int
) -> Float[nn.Parameter, "..."]:
    """Return a parameter from U(-bound, bound)."""
    return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype).uniform_(-bound, bound))


def _rows(state: State, rows: Tensor) -> State:
    return map_state(lambda field: field.index_select(0, rows), state)


def _cat(*parts: Tensor) -> Tensor:
    return torch.cat(parts)
