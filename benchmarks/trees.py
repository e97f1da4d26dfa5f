"""Layers over trees: all nodes of a level at once, beside node by node."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.core.errors import DataError, ThroughtimeError
from throughtime.structures import RNTN, Forest, RecNN, TreeLayer, TreeLSTM
from throughtime.tasks import TASKS, TreeLabels
from throughtime.testing import node_by_node

BATCH = 64
LAYERS: dict[str, Callable[[], TreeLayer]] = {
    "TreeLSTM child-sum I=300 H=150": lambda: TreeLSTM(300, 150),
    "TreeLSTM N-ary I=300 H=150": lambda: TreeLSTM(300, 150, 2),
    "TreeLSTM N-ary I=64 H=64": lambda: TreeLSTM(64, 64, 2),
    "RecNN I=30 H=30": lambda: RecNN(30, 30),
    "RNTN I=25 H=25": lambda: RNTN(25, 25),
}


@benchmark("trees")
def trees(rounds: int) -> list[Row]:
    """Forward and backward of 64 sentences: of the Stanford Sentiment Treebank, or made up.

    The time by levels includes that of the schedule, from edges.
    """
    try:
        task, name = TASKS.build("sentiment"), "sentiment"
    except DataError:
        task, name = TASKS.build("polarity:leaves=37"), "polarity:leaves=37"
    assert isinstance(task, TreeLabels)
    batch = next(task.batches("training", BATCH)).trees
    rows: list[Row] = []
    for label, make in LAYERS.items():
        torch.manual_seed(0)
        layer = make()
        embedding = nn.Embedding(task.inputs.alphabet, layer.input_size)
        x = embedding(batch.inputs.clamp(min=0)).detach()
        x[batch.inputs < 0] = 0
        given = batch.with_inputs(x)

        def by_levels(layer: TreeLayer = layer, given: Forest = given) -> None:
            made = given.select(range(given.size))
            _backward(layer, layer(made).nodes)

        def by_nodes(layer: TreeLayer = layer, given: Forest = given) -> None:
            _backward(layer, node_by_node(layer, given).h)

        with torch.no_grad():
            if not torch.allclose(layer(given).nodes, node_by_node(layer, given).h, atol=1e-5):
                raise ThroughtimeError("outputs differ: no figure is given")
        case = f"{label} B={BATCH} {name}, {len(x)} nodes, {given.schedule.depth} levels"
        runs = {"node by node": by_nodes, "by levels": by_levels}
        rows += compare(case, runs, "node by node", rounds)
    return rows


def _backward(layer: TreeLayer, outputs: Tensor) -> None:
    torch.autograd.grad(outputs.sum(), list(layer.parameters()))
