"""Families of models over trees."""

from throughtime.core.errors import ConfigurationError
from throughtime.models.families import FAMILIES
from throughtime.models.tree_model import TreeModel
from throughtime.structures import RNTN, RecNN, TreeLSTM
from throughtime.tasks.kinds import Answers, Classes, Inputs, Trees

OF_TREES = ("recnn", "rntn", "tree-lstm")
"""Families for trees."""


@FAMILIES.register("recnn")
def _recnn(
    inputs: Inputs, answers: Answers, *, hidden: int = 30, embedding: int = 0, dropout: float = 0.0
) -> TreeModel:
    """A recursive network: a tanh of the children's states (Socher et al. 2011)."""
    kind, classes = _trees(inputs, answers, "recnn")
    width, own = embedding or hidden, embedding > 0
    layer = RecNN(width, hidden, kind.arity, input_weights=own)
    return TreeModel(kind, classes, layer, dropout)


@FAMILIES.register("rntn")
def _rntn(
    inputs: Inputs, answers: Answers, *, hidden: int = 25, embedding: int = 0, dropout: float = 0.0
) -> TreeModel:
    """A recursive neural tensor network: products of the children's states (Socher et al. 2013)."""
    kind, classes = _trees(inputs, answers, "rntn")
    width, own = embedding or hidden, embedding > 0
    layer = RNTN(width, hidden, kind.arity, input_weights=own)
    return TreeModel(kind, classes, layer, dropout)


@FAMILIES.register("tree-lstm")
def _tree_lstm(
    inputs: Inputs,
    answers: Answers,
    *,
    hidden: int = 64,
    embedding: int = 64,
    child_sum: bool = False,
    dropout: float = 0.0,
) -> TreeModel:
    """A Tree-LSTM, N-ary or child-sum: a forget gate for each child (Tai et al. 2015)."""
    kind, classes = _trees(inputs, answers, "tree-lstm")
    layer = TreeLSTM(embedding, hidden, None if child_sum else kind.arity)
    return TreeModel(kind, classes, layer, dropout)


def _trees(inputs: Inputs, answers: Answers, family: str) -> tuple[Trees, Classes]:
    if not (isinstance(inputs, Trees) and isinstance(answers, Classes)):
        raise ConfigurationError(
            f"model {family!r}", got=f"{inputs} and {answers}", expected="trees, and classes"
        )
    return inputs, answers
