"""Models over trees: their parts, their families, and trees alone and in company."""

import pytest
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.models import build_model
from throughtime.structures import Forest, RecNN, TreeLSTM
from throughtime.tasks import TASKS, TreeLabels
from throughtime.tasks.kinds import Classes, Likelihood, Tokens, Trees

KIND, CLASSES = Trees(9, 3), Classes(5, per_step=True)
SPECS = (
    "recnn:hidden=6",
    "recnn:hidden=6,embedding=4",
    "rntn:hidden=6",
    "tree-lstm:hidden=6,embedding=4",
    "tree-lstm:hidden=6,embedding=4,child-sum=true",
)


def forest() -> Forest:
    edges = torch.tensor([[0, 1], [0, 2], [0, 3], [3, 4], [5, 6], [5, 7]])
    return Forest.of(torch.tensor([-1, 1, 2, 7, 4, -1, 8, 0]), edges, [5, 3])


@pytest.mark.parametrize("spec", SPECS)
def test_answers_are_those_of_the_layer_on_the_vectors_of_symbols(spec: str) -> None:
    model, trees = build_model(spec, KIND, CLASSES).double(), forest()
    x = torch.zeros(8, model.layer.input_size, dtype=torch.float64)
    for node, symbol in enumerate(trees.inputs.tolist()):
        if symbol >= 0:
            x[node] = model.embedding.weight[symbol]
    expected = model.readout(model.layer(trees.with_inputs(x)).nodes)
    found = model(trees)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    alone = torch.cat([model(trees.select([k])) for k in range(2)])
    torch.testing.assert_close(alone, found, rtol=0, atol=1e-12)


def test_families_have_as_many_places_as_the_trees() -> None:
    layer = build_model("tree-lstm", KIND, CLASSES).layer
    assert isinstance(layer, TreeLSTM)
    assert layer.arity == 3
    assert build_model("tree-lstm:child-sum=true", KIND, CLASSES).layer.arity is None
    own, wide = (build_model(spec, KIND, CLASSES).layer for spec in ("recnn:hidden=6", SPECS[1]))
    assert isinstance(own, RecNN)
    assert own.weight_ih is None  # words are states themselves
    assert wide.weight_ih is not None


def test_dropout_acts_in_training_alone() -> None:
    model, trees = build_model("recnn:hidden=6,dropout=0.5", KIND, CLASSES), forest()
    assert not torch.equal(model(trees), model(trees))
    model.eval()
    assert torch.equal(model(trees), model(trees))


@pytest.mark.parametrize("spec", ["recnn", "rntn", "tree-lstm"])
def test_a_task_of_another_kind_is_named(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="expected trees, and classes"):
        build_model(spec, Tokens(5), Likelihood())
    with pytest.raises(ConfigurationError, match=r"dropout: got 1\.0, expected at least 0"):
        build_model(f"{spec}:dropout=1", KIND, CLASSES)


def test_the_name_of_a_cell_is_no_model_of_trees() -> None:
    with pytest.raises(ConfigurationError, match="expected one of recnn, rntn, tree-lstm"):
        build_model("lstm", KIND, CLASSES)


def test_binary_accuracies_compare_the_sums_of_both_signs() -> None:
    """By hand: neutral nodes do not count, and the likeliest class need not have the sign."""
    task = TASKS.build("polarity:leaves=3,trees=20")
    assert isinstance(task, TreeLabels)
    trees = Forest.of(torch.zeros(3, dtype=torch.int64), torch.tensor([[0, 1], [0, 2]]))
    batch = next(task.batches("test", 1))._replace(trees=trees, labels=torch.tensor([3, 0, 2]))
    shares = torch.tensor(
        [
            [0.4, 0.0, 0.0, 0.3, 0.3],  # the likeliest is 0, the sign is right
            [0.0, 0.3, 0.1, 0.6, 0.0],  # wrong
            [0.0, 0.0, 1.0, 0.0, 0.0],  # neutral
        ]
    )
    score = task.score(Answer(shares.log()), batch)
    found = task.report(score.parts)
    assert found["accuracy"] == 0
    assert found["node_accuracy"] == pytest.approx(1 / 3)
    assert found["binary_accuracy"] == 1
    assert found["binary_node_accuracy"] == 0.5


def test_the_loss_of_roots_leaves_out_inner_nodes() -> None:
    task = TASKS.build("polarity:leaves=3,trees=20")
    assert isinstance(task, TreeLabels)
    roots = TreeLabels("roots", task.splits, alphabet=22, classes=5, loss="roots")
    batch = next(task.batches("validation", 7))
    logits = torch.randn(len(batch.labels), 5)
    of_roots = batch.trees.roots
    expected = torch.nn.functional.cross_entropy(logits[of_roots], batch.labels[of_roots])
    model = Answer(logits)
    assert roots.score(model, batch).loss == expected
    assert roots.score(model, batch).parts["loss"].count == 7
    expected = torch.nn.functional.cross_entropy(logits, batch.labels)
    assert task.score(model, batch).loss == expected


class Answer(torch.nn.Module):
    """A model that gives these answers."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, trees: Forest) -> torch.Tensor:
        del trees
        return self.logits
