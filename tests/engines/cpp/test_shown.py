"""Results that may be changed in place, and what the count of their changes holds."""

import gc

import torch

import throughtime as tt
from throughtime.engines.cpp.operators import Shown


def test_changes_of_results_are_counted_without_holding_their_memory():
    results = [torch.ones(1000, requires_grad=True) * 2 for _ in range(2)]
    shown = Shown(results)
    assert not shown.changed()
    assert not any(counter.untyped_storage().nbytes() for counter in shown._counters)
    assert all(counter._base is None for counter in shown._counters), "it would hold the graph"
    results[1][3:].detach().view(-1, 1).mul_(2)
    assert shown.changed()


def test_a_graph_that_was_used_holds_no_values():
    """A loss that a user keeps holds the graph, whose values are freed by the backward pass."""
    layer = tt.LSTM(3, 41)
    losses = []
    for _ in range(3):
        outputs, _, states = layer(torch.randn(37, 2, 3), return_states=True)
        losses.append(outputs.sum() + states.c[5].sum())
        losses[-1].backward()
    del outputs, states, _
    gc.collect()
    alive = [o for o in gc.get_objects() if type(o) is torch.Tensor and o.shape[:1] == (37,)]
    assert alive == []
