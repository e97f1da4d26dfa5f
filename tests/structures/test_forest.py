"""Batches of trees: schedules, parts and wholes, and edges that form no trees."""

import pytest
import torch

from throughtime.core.errors import ConfigurationError, DtypeError, ShapeError, StructureError
from throughtime.structures import Forest, TreeLSTM
from throughtime.testing import random_forest


def forest(edges: list[list[int]], sizes: list[int], **options: object) -> Forest:
    pairs = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)
    return Forest.of(torch.zeros(sum(sizes), 1), pairs, sizes, **options)  # pyright: ignore


@pytest.mark.parametrize("shared", [False, True])
def test_a_schedule_computes_each_node_once_behind_its_children(shared: bool) -> None:
    for seed in range(5):
        trees = random_forest(seed, [1, 2, 9, 40], 1, arity=3, shared=shared)
        schedule = trees.schedule
        order = torch.cat([schedule.leaves, schedule.inner])
        assert sorted(order.tolist()) == list(range(52))
        assert torch.equal(order[schedule.rows], torch.arange(52))
        leaves, inner = schedule.leaves.tolist(), schedule.inner.tolist()
        live: list[int] = []
        read: set[tuple[int, int]] = set()
        for level in schedule.levels():
            own = [inner.pop(0) for _ in range(level.inner)]
            for source, parent in zip(level.sources.tolist(), level.parents.tolist(), strict=True):
                read.add((own[parent], live[source]))
            kept = [live[k] for k in level.kept.tolist()]
            live = own + [leaves.pop(0) for _ in range(level.leaves)] + kept
        assert sorted(live) == trees.roots.tolist()
        assert sorted(read) == sorted({(a, b) for a, b in trees.edges.tolist()})
        assert not inner
        assert not leaves


def test_a_level_holds_nodes_of_all_trees() -> None:
    trees = forest([[0, 1], [1, 2], [3, 4]], [3, 2])
    # by distance from the root: 2; then 1, 4; then 0, 3
    assert trees.schedule.counts == ((0, 1, 0, 0), (1, 1, 1, 0), (2, 0, 2, 0))
    assert trees.schedule.depth == 3
    assert trees.arity == 1


def test_a_shared_node_stays_alive_until_its_last_reader() -> None:
    """0 reads 1 and 3; 1 reads 2; 2 reads 3."""
    graph = forest([[0, 1], [1, 2], [2, 3], [0, 3]], [4], shared=True)
    kept = [len(level.kept) for level in graph.schedule.levels()]
    assert kept == [0, 1, 1, 0]


def test_parts_and_wholes() -> None:
    trees = random_forest(0, [4, 1, 7], 2)
    part = trees.select([2, 0, 2])
    assert part.sizes.tolist() == [7, 4, 7]
    assert torch.equal(part.inputs, trees.inputs[trees.nodes_of([2, 0, 2])])
    own = trees.select([0])
    moved = part.edges[(part.edges[:, 0] >= 7) & (part.edges[:, 0] < 11)] - 7
    assert torch.equal(moved, own.edges)
    again = Forest.joined([trees.select([k]) for k in range(3)])
    for name in ("inputs", "sizes", "edges", "positions", "roots"):
        assert torch.equal(getattr(again, name), getattr(trees, name))
    assert trees.to(torch.device("meta")).schedule.rows.device.type == "meta"


def test_inner_nodes_without_symbols_are_known() -> None:
    edges = torch.tensor([[0, 1], [0, 2]])
    assert not Forest.of(torch.tensor([-1, 3, 4]), edges).inputs_inside
    assert Forest.of(torch.tensor([2, 3, 4]), edges).inputs_inside
    layer = TreeLSTM(2, 3)
    vectors = torch.cat([torch.zeros(1, 2), torch.randn(2, 2)])
    outputs = [
        layer(Forest.of(symbols, edges).with_inputs(vectors)).nodes
        for symbols in (torch.tensor([-1, 3, 4]), torch.tensor([2, 3, 4]))
    ]
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize(
    ("edges", "sizes", "message"),
    [
        ([[0, 1], [2, 3], [3, 2]], [4], r"cycle (2 -> 3 -> 2|3 -> 2 -> 3)"),
        ([[0, 1], [1, 1]], [2], r"node 1 of trees: got the parents 0, 1, expected one parent"),
        ([[0, 2], [1, 2]], [3], r"node 2 of trees: got the parents 0, 1.*shared=True"),
        ([[0, 1]], [3], r"tree 0: got the roots 0, 2, expected one node without a parent"),
        ([[0, 1]], [2, 0], r"tree 1: got 0 nodes, expected at least one"),
        ([[0, 2]], [2, 1], r"edge 0 of trees: got parent 0, child 2, from tree 0 to tree 1"),
        ([[0, 5]], [2], r"edge 0 of trees: got parent 0, child 5, expected nodes from 0 to 1"),
        ([[0, -1]], [2], r"edge 0 of trees: got parent 0, child -1"),
    ],
)
def test_edges_that_form_no_trees_are_named(
    edges: list[list[int]], sizes: list[int], message: str
) -> None:
    with pytest.raises(StructureError, match=message):
        forest(edges, sizes)


def test_a_cycle_of_a_graph_with_shared_nodes_is_named() -> None:
    edges = [[0, 1], [1, 2], [2, 3], [3, 1], [0, 4]]
    with pytest.raises(
        StructureError, match=r"(1 -> 2 -> 3 -> 1|2 -> 3 -> 1 -> 2|3 -> 1 -> 2 -> 3)"
    ):
        forest(edges, [5], shared=True)
    with pytest.raises(StructureError, match=r"cycle 0 -> 0"):
        forest([[0, 0]], [1])


def test_places_are_whole_numbers_from_0_each_once() -> None:
    x, edges = torch.zeros(3, 1), torch.tensor([[0, 1], [0, 2]])
    with pytest.raises(StructureError, match=r"parent 0, child \d at place 1, expected places"):
        Forest.of(x, edges, positions=torch.tensor([1, 1]))
    with pytest.raises(StructureError, match=r"parent 0, child 1 at place -1"):
        Forest.of(x, edges, positions=torch.tensor([-1, 0]))


@pytest.mark.usefixtures("unchecked")
def test_tensors_that_do_not_fit_are_named() -> None:
    x, edges = torch.zeros(3, 1), torch.tensor([[0, 1], [0, 2]])
    with pytest.raises(ShapeError, match=r"edges of trees: got \(4,\), expected \(edge, 2\)"):
        Forest.of(x, edges.flatten())
    with pytest.raises(DtypeError, match=r"edges of trees: got torch\.float32"):
        Forest.of(x, edges.float())
    with pytest.raises(ShapeError, match=r"positions of trees: got \(1,\), expected \(2,\)"):
        Forest.of(x, edges, positions=torch.tensor([0]))
    with pytest.raises(ShapeError, match=r"inputs of trees: got shape \(3, 1\), expected \(4 nod"):
        Forest.of(x, edges, [4])
    with pytest.raises(ShapeError, match=r"expected \(3 nodes, ...\)"):
        Forest.of(x, edges).with_inputs(x[:2])


@pytest.mark.parametrize(("arity", "message"), [(0, "arity: got 0"), (2.5, "arity: got 2.5")])
def test_an_arity_is_a_whole_number(arity: int, message: str, unchecked: None) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TreeLSTM(2, 3, arity)
