"""Tree networks as they are written in papers: recursions over one tree, in float64."""

from collections.abc import Callable

import torch
from torch import Tensor

from throughtime.structures import RNTN, Forest, RecNN, TreeLSTM

States = dict[int, tuple[Tensor, Tensor]]


def children_of(forest: Forest) -> dict[int, dict[int, int]]:
    """The child at each place of each node."""
    found: dict[int, dict[int, int]] = {node: {} for node in range(len(forest.inputs))}
    for (parent, child), place in zip(
        forest.edges.tolist(), forest.positions.tolist(), strict=True
    ):
        found[parent][place] = child
    return found


def recursion(forest: Forest, step: Callable[[Tensor, dict[int, object]], object]) -> list[object]:
    """The value of each node, from those of its children by place."""
    children = children_of(forest)
    known: dict[int, object] = {}

    def value(node: int) -> object:
        if node not in known:
            own = {place: value(child) for place, child in children[node].items()}
            known[node] = step(forest.inputs[node], own)
        return known[node]

    return [value(node) for node in range(len(forest.inputs))]


def tree_lstm(layer: TreeLSTM, forest: Forest) -> tuple[Tensor, Tensor]:
    """The Tree-LSTM (Tai et al. 2015), child-sum and N-ary, one gate at a time."""
    n = layer.hidden_size
    W_f, W_i, W_u, W_o = layer.weight_ih.split(n)
    zero = torch.zeros(4 * n, dtype=torch.float64)
    b_f, b_i, b_u, b_o = (zero if layer.bias_ih is None else layer.bias_ih).split(n)

    def step(x: Tensor, children: dict[int, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        i, u, o = W_i @ x + b_i, W_u @ x + b_u, W_o @ x + b_o
        kept = torch.zeros(n, dtype=torch.float64)
        if layer.arity is None:
            U_f, U_i, U_u, U_o = layer.weight_hh.split(n)
            total = sum((h for h, _ in children.values()), torch.zeros(n, dtype=torch.float64))
            i, u, o = i + U_i @ total, u + U_u @ total, o + U_o @ total
            for h, c in children.values():
                kept = kept + torch.sigmoid(W_f @ x + b_f + U_f @ h) * c
        else:
            U = layer.weight_hh.view(layer.arity + 3, n, layer.arity, n)
            for place, (h, _) in children.items():
                i = i + U[-3, :, place] @ h
                u = u + U[-2, :, place] @ h
                o = o + U[-1, :, place] @ h
            for k, (_, c) in children.items():
                f = W_f @ x + b_f
                for place, (h, _) in children.items():
                    f = f + U[k, :, place] @ h
                kept = kept + torch.sigmoid(f) * c
        c = torch.sigmoid(i) * torch.tanh(u) + kept
        return torch.sigmoid(o) * torch.tanh(c), c

    states = recursion(forest, step)
    return torch.stack([h for h, _ in states]), torch.stack([c for _, c in states])


def recursive(layer: RecNN | RNTN, forest: Forest) -> Tensor:
    """RecNN (Socher et al. 2011) and RNTN (Socher et al. 2013), one unit at a time."""
    n, zero = layer.hidden_size, torch.zeros(layer.hidden_size, dtype=torch.float64)

    def step(x: Tensor, children: dict[int, Tensor]) -> Tensor:
        own = x if layer.weight_ih is None else layer.weight_ih @ x
        if not children:
            return torch.tanh(own + layer.bias)
        both = torch.cat([children.get(place, zero) for place in range(layer.arity)])
        sums = [own[k] + layer.bias[k] + layer.weight_hh[k] @ both for k in range(n)]
        if isinstance(layer, RNTN):
            sums = [s + both @ layer.tensor[k] @ both / len(both) for k, s in enumerate(sums)]
        return torch.tanh(torch.stack(sums))

    return torch.stack(recursion(forest, step))
