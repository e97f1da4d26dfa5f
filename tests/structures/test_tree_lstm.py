"""The Tree-LSTM beside a recursion in float64, the LSTM, and itself in other orders."""

import pytest
import torch
from structures.references import tree_lstm
from torch import Tensor

import throughtime as tt
from throughtime.structures import Forest, TreeLSTM
from throughtime.testing import random_forest

SIZES = [7, 1, 12, 2, 30]


def made(arity: int | None, bias: bool = True) -> TreeLSTM:
    torch.manual_seed(1)
    return TreeLSTM(3, 4, arity, bias=bias, dtype=torch.float64)


def gradients(layer: TreeLSTM, value: Tensor, x: Tensor) -> list[Tensor]:
    return [*torch.autograd.grad(value, [x, *layer.parameters()])]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("arity", "bias"), [(None, True), (None, False), (3, True)])
def test_equals_the_recursion_with_gradients(arity: int | None, bias: bool, shared: bool) -> None:
    layer = made(arity, bias)
    for seed in range(3):
        forest = random_forest(seed, SIZES, 3, arity=arity or 100, shared=shared)
        x = forest.inputs.requires_grad_()
        h, c = tree_lstm(layer, forest)
        states = layer.states(forest)
        torch.testing.assert_close(states.h, h, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(states.c, c, rtol=1e-12, atol=1e-13)
        weights = torch.randn_like(h)
        expected = gradients(layer, (weights * (h + c)).sum(), x)
        found = gradients(layer, (weights * (states.h + states.c)).sum(), x)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("arity", [None, 3])
def test_a_tree_is_the_same_alone_and_in_company(arity: int | None) -> None:
    layer = made(arity)
    forest = random_forest(0, SIZES, 3, arity=3)
    together = layer(forest)
    assert together.roots.shape == (len(SIZES), 4)
    alone = [layer(forest.select([k])) for k in range(forest.size)]
    nodes = torch.cat([each.nodes for each in alone])
    torch.testing.assert_close(nodes, together.nodes, rtol=0, atol=1e-12)
    roots = torch.cat([each.roots for each in alone])
    torch.testing.assert_close(roots, together.roots, rtol=0, atol=1e-12)
    again = Forest.joined([forest.select([k]) for k in range(forest.size)])
    assert torch.equal(layer(again).nodes, together.nodes)


@pytest.mark.parametrize("arity", [None, 2])
def test_a_chain_is_the_lstm(arity: int | None) -> None:
    """Beside the LSTM of throughtime and torch, whose gates are i, f, g, o."""
    layer = TreeLSTM(3, 4, arity, dtype=torch.float64)
    lstm = tt.LSTM(3, 4, dtype=torch.float64, engine="eager")
    places = arity or 1
    f, _, i, g, o = layer.weight_hh[:, :4].split([4, 4 * (places - 1), 4, 4, 4])
    first = torch.cat([f, i, g, o])
    order = torch.tensor([*range(4, 8), *range(4), *range(8, 16)])
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(layer.weight_ih[order])
        lstm.weight_hh_l0.copy_(first[order])
        lstm.bias_ih_l0.copy_(layer.bias_ih[order])
        lstm.bias_hh_l0.zero_()
    x = torch.randn(9, 3, dtype=torch.float64)
    steps = torch.arange(9)
    chain = Forest.of(x, torch.stack([steps[1:], steps[:-1]], 1))
    expected, _ = lstm(x)
    torch.testing.assert_close(layer(chain).nodes, expected, rtol=1e-12, atol=1e-13)


def test_the_order_of_edges_changes_nothing() -> None:
    """Children of one parent need not follow each other."""
    layer = made(None)
    forest = random_forest(0, [40], 3, arity=40)
    for seed in range(3):
        torch.manual_seed(seed)
        edges = forest.edges[torch.randperm(len(forest.edges))]
        again = Forest.of(forest.inputs, edges)
        assert torch.equal(layer(again).nodes, layer(forest).nodes)


def test_the_order_of_children_counts_in_the_n_ary_network_alone() -> None:
    x = torch.randn(3, 3, dtype=torch.float64)
    edges = torch.tensor([[0, 1], [0, 2]])
    usual = Forest.of(x, edges)
    turned = Forest.of(x, edges, positions=torch.tensor([1, 0]))
    n_ary, summed = made(2), made(None)
    assert not torch.allclose(n_ary(usual).roots, n_ary(turned).roots)
    torch.testing.assert_close(summed(usual).roots, summed(turned).roots)
    second_alone = Forest.of(x[:2], edges[:1], positions=torch.tensor([1]))
    expected, _ = tree_lstm(n_ary, second_alone)
    torch.testing.assert_close(n_ary(second_alone).nodes, expected)


def test_inputs_at_inner_nodes_take_part() -> None:
    """In every gate: W x is not dropped where a node has children."""
    for arity in (None, 2):
        layer = made(arity)
        x = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
        c = layer.states(Forest.of(x, torch.tensor([[0, 1], [0, 2]]))).c
        for weight in torch.autograd.grad(c[0].sum(), layer.weight_ih)[0].split(4)[:3]:
            assert bool((weight != 0).all())


def test_a_chain_of_depth_10_000_runs_without_recursion() -> None:
    layer = TreeLSTM(2, 2)
    steps = torch.arange(10_000)
    x = torch.randn(10_000, 2, requires_grad=True)
    forest = Forest.of(x, torch.stack([steps[:-1], steps[1:]], 1))
    assert forest.schedule.depth == 10_000
    roots = layer(forest).roots
    roots.sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_an_empty_batch_has_no_outputs() -> None:
    forest = random_forest(0, [3, 4], 3).select([])
    output = made(None)(forest)
    assert output.nodes.shape == output.roots.shape == (0, 4)
