"""A graph evaluated in torch, on any number of rows, and differentiable any number of times."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from throughtime.engines.trace.program import OPERATIONS
from throughtime.engines.trace.steps.graph import Graph, Leaf, Piece
from throughtime.engines.trace.steps.recorder import Computed, Fixed, Named, Static


@final
class StaticTensors:
    """The tensors that are computed once a run, from a cell's parameters and buffers.

    Arguments:
        statics: The recorded tensors.
        wanted: The numbers of those that are read.
    """

    def __init__(self, statics: Sequence[Named | Computed | Fixed], wanted: Sequence[int]):
        self._statics, self._wanted = statics, tuple(wanted)
        needed: set[int] = set()
        left = list(wanted)
        while left:
            index = left.pop()
            if index not in needed:
                needed.add(index)
                static = statics[index]
                if isinstance(static, Computed):
                    left += [s.index for s in _found((static.arguments, static.options))]
        self._order = sorted(needed)

    def __call__(self, named: Mapping[str, Tensor]) -> dict[int, Tensor]:
        """Return the tensors by number, differentiable.

        Arguments:
            named: The parameters and buffers by name.
        """
        found: dict[int, Tensor] = {}
        results: dict[tuple[int, int], Any] = {}
        for index in self._order:
            static = self._statics[index]
            if isinstance(static, Named):
                found[index] = named[static.name]
            elif isinstance(static, Fixed):
                found[index] = static.tensor
            else:
                call = id(static.arguments), id(static.options)
                if call not in results:
                    arguments = _filled(static.arguments, found)
                    results[call] = static.function(*arguments, **_filled(static.options, found))
                result = results[call]
                found[index] = result if static.result is None else result[static.result]
        return {index: found[index] for index in self._wanted}


def _found(value: Any) -> Iterator[Static]:
    if isinstance(value, Static):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _found(part)


def _filled(value: Any, found: Mapping[int, Tensor]) -> Any:
    """Return arguments with tensors in the place of their numbers."""
    if isinstance(value, Static):
        return found[value.index]
    if isinstance(value, dict):
        return {name: _filled(part, found) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)([_filled(part, found) for part in value])
    return value


@final
class Evaluation:
    """The values of a graph's nodes for given leaves, each computed once.

    Arguments:
        graph: The graph.
        given: The values of a leaf: (rows, width), or (width,).
        weights: The matrix of a number.
        like: A tensor with the dtype and device of constants.
    """

    def __init__(
        self,
        graph: Graph,
        given: Callable[[Leaf], Tensor],
        weights: Callable[[int], Tensor],
        like: Tensor,
    ):
        self._graph, self._given, self._weights, self._like = graph, given, weights, like
        self._found: dict[int, Tensor] = {}
        self._products: dict[int, Tensor] = {}

    def set(self, position: int, value: Tensor) -> None:
        """Give the value of a node."""
        self._found[position] = value

    def pieces(self, pieces: Sequence[Piece], rows: int) -> Tensor:
        """Return pieces side by side, (rows, width)."""
        parts = [self.value(p.position).expand(rows, p.width) for p in pieces]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def value(self, position: int) -> Tensor:
        """Return the value of a node, of a shape that broadcasts to (rows, width)."""
        left = [position]
        while left:
            last = left[-1]
            missing = [] if last in self._found else self._missing(last)
            if missing:
                left += missing
                continue
            left.pop()
            if last not in self._found:
                self._found[last] = self._computed(last)
        return self._found[position]

    def _missing(self, position: int) -> list[int]:
        leaf = self._graph.leaves.get(position)
        if leaf is not None and leaf.source == "product" and leaf.number in self._products:
            return []
        return [a for a in self._graph.reads(position) if a not in self._found]

    def _computed(self, position: int) -> Tensor:
        graph, leaf = self._graph, self._graph.leaves.get(position)
        if leaf is None:
            node = graph.nodes[position]
            if node.constant is not None:
                return self._like.new_full((), node.constant)
            return OPERATIONS[node.operation].function(*(self._found[a] for a in node.arguments))
        if leaf.source == "product":
            return self._product(leaf.number)[..., leaf.offset : leaf.offset + leaf.width]
        if leaf.source != "reduction":
            return self._given(leaf)
        reduction = graph.reductions[leaf.number]
        value = self._found[reduction.position]
        if reduction.operation == "sum":
            return value.sum(-1, keepdim=True)
        peak = value.amax(-1, keepdim=True)
        return peak.detach() if reduction.operation == "peak" else peak

    def _product(self, number: int) -> Tensor:
        if number not in self._products:
            product = self._graph.products[number]
            rows = max(
                [
                    self._found[p.position].shape[0]
                    for p in product.inputs
                    if self._found[p.position].dim() == 2
                ],
                default=1,
            )
            matrix = self._weights(product.weight)
            matrix = matrix.t() if product.transposed else matrix
            self._products[number] = self.pieces(product.inputs, rows) @ matrix
        return self._products[number]
