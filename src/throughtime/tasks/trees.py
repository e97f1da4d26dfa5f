"""Trees with a label at every node."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from throughtime.core.errors import DataError
from throughtime.core.scoring import Mean, Metric, Score
from throughtime.structures import Forest
from throughtime.tasks.kinds import Classes, Trees
from throughtime.tasks.seeding import shuffled
from throughtime.tasks.task import Split, Task, check_at_least
from throughtime.tasks.vocabulary import WordVocabulary


@final
class TreeBatch(NamedTuple):
    """Trees and the labels of their nodes.

    Attributes:
        trees: trees, with symbols at the nodes, -1 at nodes without one.
        labels: (node,) classes, -1 where no answer is due.
    """

    trees: Forest
    labels: Int[Tensor, " node"]

    @property
    def size(self) -> int:
        """The number of trees."""
        return self.trees.size

    def to(self, device: torch.device) -> "TreeBatch":
        """Return the batch on a device.

        Arguments:
            device: device of the model.
        """
        return TreeBatch(self.trees.to(device), self.labels.to(device))

    def select(self, trees: Sequence[int] | Int[np.ndarray, " tree"]) -> "TreeBatch":
        """Return some of the trees.

        Arguments:
            trees: numbers of trees.
        """
        return TreeBatch(self.trees.select(trees), self.labels[self.trees.nodes_of(trees)])


@final
class TreeLabels(Task):
    """The class of each node of a tree, from the words at its leaves and the shape of the tree.

        loss = - mean over nodes, or over roots, of ln p(class)        nats

    Accuracy is that of the roots, whole sentences; `node_accuracy` is that of all nodes. Where
    classes have signs, as those from very negative to very positive, binary accuracies compare the
    sums of the probabilities of each sign; nodes with a class of sign 0 do not count.

    Arguments:
        name: name of the task.
        splits: trees and labels of each split.
        alphabet: number of symbols.
        classes: number of classes.
        loss: nodes whose loss is minimised: all "nodes", or "roots" alone.
        signs: sign of each class, -1, 0 or 1; None where they have none.
        goal: smallest accuracy at the roots at which the task counts as solved; None for never.
        note: source of the goal in words.

    Inputs:
        a `Forest` of symbols.

    Targets:
        (node,) classes, -1 where no answer is due.

    Chance:
        the most frequent class of training roots; the entropy of the classes of training nodes, or
        roots.

    Raises:
        DataError: a split without trees, or a node of held-out trees with more children than any
            in training.

    Example:
        >>> trees = Forest.of(torch.tensor([-1, 0, 1]), torch.tensor([[0, 1], [0, 2]]))
        >>> labels = TreeBatch(trees, torch.tensor([1, 0, 1]))
        >>> task = TreeLabels("small", dict.fromkeys(("training", "validation", "test"), labels),
        ...                   alphabet=2, classes=2)
        >>> next(task.batches("training", 4)).labels.tolist()
        [1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    """

    inputs: Trees  # pyright: ignore[reportIncompatibleVariableOverride]
    answers: Classes  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        name: str,
        splits: Mapping[Split, TreeBatch],
        *,
        alphabet: int,
        classes: int,
        loss: Literal["nodes", "roots"] = "nodes",
        signs: Sequence[int] | None = None,
        goal: float | None = None,
        note: str = "our choice",
    ):
        self.name, self.splits, self.loss, self.goal = name, splits, loss, goal
        self.vocabularies: Mapping[str, WordVocabulary] = {}
        self.signs = None if signs is None else torch.tensor(signs)
        training = splits["training"]
        for split, batch in splits.items():
            if batch.size == 0:
                raise DataError(f"{split} trees of task '{name}'", got="none", expected="some")
            if batch.trees.arity > training.trees.arity:
                raise DataError(
                    f"{split} trees of task '{name}'",
                    got=f"a node with {batch.trees.arity} children",
                    expected=f"at most {training.trees.arity}, as in training",
                )
        kind = Trees(alphabet, max(1, training.trees.arity))
        self.inputs = kind  # pyright: ignore[reportIncompatibleVariableOverride]
        kinds = Classes(classes, per_step=True)
        self.answers = kinds  # pyright: ignore[reportIncompatibleVariableOverride]
        self.length = max(2, training.trees.schedule.depth)
        self.dependency_length = self.length - 1
        self.chance = float(_shares(training.labels[training.trees.roots]).max())
        shares = _shares(self._due(training))
        self.chance_loss = float(-(shares * shares.log()).sum())
        if goal is None:
            self.criterion = f"none: the run makes all its steps ({note})"
        else:
            self.criterion = f"accuracy of at least {goal:.0%} at the roots ({note})"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracies of roots and of all nodes, those of signs where there are, and the loss."""
        names = ["node_accuracy"]
        names += [] if self.signs is None else ["binary_accuracy", "binary_node_accuracy"]
        return (
            Metric("accuracy", "fraction", "higher", self.chance),
            *(Metric(name, "fraction", "higher") for name in names),
            Metric("loss", "nats", "lower", self.chance_loss, tables=False),
        )

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[TreeBatch]:
        """Return trees in random order, epoch after epoch, or the held-out trees in order.

        Arguments:
            split: "training", which never ends, or held-out trees.
            size: trees of a batch; the last held-out batch may be smaller.
            seed: seed of the run.
            start: step of the first batch.
        """
        check_at_least("batch_size", size, 1)
        own, step = self.splits[split], start
        while split == "training" or step * size < own.size:
            if split == "training":
                chosen = shuffled(own.size, step, size, seed)
            else:
                chosen = np.arange(step * size, min(own.size, (step + 1) * size))
            yield own.select(chosen)
            step += 1

    def score(
        self, model: nn.Module, batch: TreeBatch, *, state: Any = None, step: int | None = None
    ) -> Score:
        """Return the mean cross-entropy in nats.

        Arguments:
            model: function from a forest to the (node, class) logits.
            batch: trees.
            state: unused.
            step: training step; None in evaluation, which also has the accuracies.
        """
        del state
        logits = model(batch.trees)
        due = self._due(batch)
        loss = self.answers.loss(logits, due)
        count = self.answers.due(due).sum()
        total = torch.where(count > 0, loss.detach().double() * count, 0.0)
        parts = {"loss": Mean(total, count)}
        if step is None:
            parts |= self._accuracies(logits.detach(), batch)
        return Score(loss, parts)

    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return all metrics.

        Arguments:
            parts: merged parts of scores in evaluation.
        """
        return {metric.name: parts[metric.name].value for metric in self.metrics}

    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return nothing: the score has all metrics.

        Arguments:
            model, split: unused.
        """
        del model, split
        return {}

    def last_answers(self, batch: TreeBatch) -> TreeBatch:
        """Return the batch with the labels of roots alone; symbols have no precision.

        Arguments:
            batch: trees.
        """
        return batch._replace(labels=_of_roots(batch))

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return True if the accuracy at the roots is at least the goal, where there is one.

        Arguments:
            metrics: held-out metrics.
        """
        return self.goal is not None and metrics["accuracy"] >= self.goal

    def _due(self, batch: TreeBatch) -> Int[Tensor, " node"]:
        return batch.labels if self.loss == "nodes" else _of_roots(batch)

    def _accuracies(self, logits: Tensor, batch: TreeBatch) -> dict[str, Mean]:
        of_roots = torch.zeros_like(batch.labels, dtype=torch.bool)
        of_roots[batch.trees.roots] = True
        due, right = batch.labels >= 0, logits.argmax(1) == batch.labels
        found = {"accuracy": (right, due & of_roots), "node_accuracy": (right, due)}
        if self.signs is not None:
            signs = self.signs.to(logits.device)
            truth = torch.where(due, signs[batch.labels.clamp(min=0)], 0)
            positive = logits.softmax(1) @ signs.to(logits.dtype)
            right, due = (positive > 0) == (truth > 0), truth != 0
            found |= {
                "binary_accuracy": (right, due & of_roots),
                "binary_node_accuracy": (right, due),
            }
        return {name: _mean(*pair) for name, pair in found.items()}


def _mean(right: Bool[Tensor, " node"], counted: Bool[Tensor, " node"]) -> Mean:
    return Mean((right & counted).sum(), counted.sum())


def _of_roots(batch: TreeBatch) -> Int[Tensor, " node"]:
    labels = torch.full_like(batch.labels, -1)
    labels[batch.trees.roots] = batch.labels[batch.trees.roots]
    return labels


def _shares(labels: Int[Tensor, " node"]) -> Float[Tensor, " class"]:
    counts = torch.bincount(labels[labels >= 0]).double()
    return counts[counts > 0] / counts.sum()
