"""The suite that every layer over trees inherits."""

import abc

import numpy as np
import pytest
import torch
from torch import Tensor

from throughtime.core.errors import DtypeError, ShapeError
from throughtime.core.state import State, map_state
from throughtime.structures import Children, Forest, TreeLayer
from throughtime.testing.compare import close

_CHAIN = 1_200


class TreeConformance(abc.ABC):
    """The rules of layers over trees. Inherit it, supply `make_layer`, and run pytest.

    The layer is run in float64 on the CPU. Its nodes have at most three children.

    Attributes:
        tolerance: largest difference of outputs, and of gradients.

    Example:
        class TestMyLayer(TreeConformance):
            def make_layer(self):
                return MyLayer(3, 4, arity=3)
    """

    tolerance = 1e-12

    @abc.abstractmethod
    def make_layer(self) -> TreeLayer:
        """Return a small layer for nodes with up to three children."""

    def test_equals_its_step_node_by_node(self) -> None:
        """Outputs and all gradients, over trees and over graphs with shared nodes."""
        layer = self._layer()
        for shared in (False, True):
            forest = self._forest(layer, [1, 2, 9, 30, 3], shared=shared)
            x = forest.inputs.requires_grad_()
            found, expected = layer(forest).nodes, node_by_node(layer, forest).h
            close([found], [expected], self.tolerance)
            factors = torch.randn_like(found)
            wanted = [x, *layer.parameters()]
            close(
                torch.autograd.grad((found * factors).sum(), wanted),
                torch.autograd.grad((expected * factors).sum(), wanted),
                self.tolerance * 100,
            )

    def test_a_tree_is_the_same_alone_and_in_company(self) -> None:
        """Nodes and roots."""
        layer = self._layer()
        forest = self._forest(layer, [1, 2, 9, 30, 3])
        together = layer(forest)
        alone = [layer(forest.select([k])) for k in range(forest.size)]
        close([torch.cat([each.nodes for each in alone])], [together.nodes], self.tolerance)
        close([torch.cat([each.roots for each in alone])], [together.roots], self.tolerance)
        assert layer(forest.select([])).roots.shape == (0, layer.hidden_size)

    def test_neither_edges_nor_nodes_have_an_order(self) -> None:
        """The same trees with edges in another order, and with other numbers of nodes."""
        layer = self._layer()
        forest = self._forest(layer, [40])
        expected = layer(forest).nodes
        order = torch.randperm(len(forest.edges))
        edges, places = forest.edges[order], forest.positions[order]
        close([layer(Forest.of(forest.inputs, edges, positions=places)).nodes], [expected], 0)
        new = torch.randperm(40)  # number of each node
        x = torch.empty_like(forest.inputs)
        x[new] = forest.inputs
        again = Forest.of(x, new[edges], positions=places)
        close([layer(again).nodes[new]], [expected], self.tolerance)

    def test_a_shared_node_is_as_good_as_its_copies(self) -> None:
        """0 reads 1 and 2, both read 3, which reads 4; beside the tree with 3 and 4 twice."""
        layer = self._layer()
        x = torch.randn(5, layer.input_size, dtype=torch.float64)
        edges = torch.tensor([[0, 1], [0, 2], [1, 3], [2, 3], [3, 4]])
        copied = torch.tensor([[0, 1], [0, 2], [1, 3], [2, 5], [3, 4], [5, 6]])
        shared = layer(Forest.of(x, edges, shared=True))
        twice = layer(Forest.of(x[[0, 1, 2, 3, 4, 3, 4]], copied))
        close([twice.nodes[:5]], [shared.nodes], self.tolerance)

    def test_each_input_has_a_part_in_the_root(self) -> None:
        """Inputs of inner nodes change it too."""
        layer = self._layer()
        forest = self._forest(layer, [12])
        x = forest.inputs.requires_grad_()
        (gradient,) = torch.autograd.grad(layer(forest).roots.sum(), x)
        assert bool((gradient != 0).any(1).all()), "an input changes nothing"

    def test_every_parameter_has_a_gradient(self) -> None:
        """The roots of some trees depend on all."""
        layer = self._layer()
        layer(self._forest(layer, [9, 30])).roots.sum().backward()
        for name, p in layer.named_parameters():
            assert p.grad is not None, f"{name} has no gradient"
            assert bool(torch.isfinite(p.grad).all())
            assert bool(p.grad.any()), f"the gradient of {name} is 0"

    def test_a_deep_chain_runs_without_recursion(self) -> None:
        """Deeper than Python's stack."""
        layer = self._layer()
        steps = torch.arange(_CHAIN)
        x = torch.randn(_CHAIN, layer.input_size, dtype=torch.float64, requires_grad=True)
        roots = layer(Forest.of(x, torch.stack([steps[:-1], steps[1:]], 1))).roots
        (gradient,) = torch.autograd.grad(roots.sum(), x)
        assert bool(torch.isfinite(gradient).all())
        assert bool(gradient[0].any())

    def test_inputs_that_do_not_fit_are_named(self) -> None:
        """Another width, another dtype, and a node with too many children."""
        layer = self._layer()
        width = layer.input_size
        edges = torch.tensor([[0, 1]])
        with pytest.raises(ShapeError, match=rf"expected \(node, {width}\)"):
            layer(Forest.of(torch.zeros(2, width + 1, dtype=torch.float64), edges))
        with pytest.raises(ShapeError, match="Symbols need an embedding"):
            layer(Forest.of(torch.zeros(2, dtype=torch.int64), edges))
        with pytest.raises(DtypeError, match=r"got torch.float32, expected torch.float64"):
            layer(Forest.of(torch.zeros(2, width), edges))
        if layer.arity is not None:
            count = layer.arity + 1
            star = torch.stack([torch.zeros(count, dtype=torch.int64), torch.arange(count) + 1], 1)
            with pytest.raises(
                ShapeError, match=f"node 0 of trees: got a child at place {count - 1}"
            ):
                layer(Forest.of(torch.zeros(count + 1, width, dtype=torch.float64), star))

    def _layer(self) -> TreeLayer:
        torch.manual_seed(0)
        return self.make_layer().double()

    def _forest(self, layer: TreeLayer, sizes: list[int], *, shared: bool = False) -> Forest:
        return random_forest(0, sizes, layer.input_size, arity=3, shared=shared)


def random_forest(
    seed: int, sizes: list[int], width: int, *, arity: int = 2, shared: bool = False
) -> Forest:
    """Return trees of random shape, whose nodes and edges have random numbers.

    Arguments:
        seed: seed of the draw.
        sizes: number of nodes of each tree.
        width: width of the inputs, float64 normal numbers.
        arity: largest number of children.
        shared: If True, there are further edges: graphs with shared nodes.

    Example:
        >>> random_forest(0, [3, 5], 2).size
        2
    """
    random = np.random.default_rng(seed)
    edges: list[tuple[int, int]] = []
    start = 0
    for size in sizes:
        names = start + random.permutation(size)
        free = [arity] * size
        for child in range(1, size):
            parents = [k for k in range(child) if free[k]]
            first = int(random.choice(parents))
            found = {first, int(random.integers(child))} if shared else {first}
            for parent in found:
                if free[parent]:
                    free[parent] -= 1
                    edges.append((names[parent], names[child]))
        start += size
    pairs = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)
    pairs = pairs[torch.from_numpy(random.permutation(len(pairs)))]
    inputs = torch.from_numpy(random.standard_normal((start, width)))
    return Forest.of(inputs, pairs, sizes, shared=shared)


def node_by_node(layer: TreeLayer, trees: Forest) -> State:
    """Return the states of all nodes, each by a step of its own: the plain form of `states`.

    Arguments:
        layer: layer over trees.
        trees: batch with vectors at the nodes.

    Example:
        >>> from throughtime import TreeLSTM
        >>> node_by_node(TreeLSTM(2, 3).double(), random_forest(0, [4], 2)).h.shape
        torch.Size([4, 3])
    """
    places: dict[int, list[tuple[int, int]]] = {}
    for (parent, child), place in zip(trees.edges.tolist(), trees.positions.tolist(), strict=True):
        places.setdefault(parent, []).append((child, place))
    known: dict[int, State] = {}
    waiting = trees.roots.tolist()
    while waiting:
        node = waiting[-1]
        children = places.get(node, [])
        missing = [child for child, _ in children if child not in known]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if node in known:
            continue
        read = None
        if children:
            read = Children(
                map_state(_cat, *(known[child] for child, _ in children)),
                torch.zeros(len(children), dtype=torch.int64),
                torch.tensor([place for _, place in children]),
                1,
            )
        known[node] = layer.step(layer.project(trees.inputs[node : node + 1]), read)
    return map_state(_cat, *(known[node] for node in range(len(known))))


def _cat(*parts: Tensor) -> Tensor:
    return torch.cat(parts)
