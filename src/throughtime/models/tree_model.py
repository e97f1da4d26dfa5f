"""A layer over trees with a linear read-out at every node."""

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.structures import Forest, TreeLayer
from throughtime.tasks.kinds import Classes, Trees


@final
class TreeModel(nn.Module):
    """Symbols' vectors, a layer over trees, and the class of each node.

        y_j = V h_j + b

    Vectors start small, with a standard deviation of 0.1 (our choice): those of rare words then
    say little. With 1, the start of torch, accuracies on sentences are lower.

    Arguments:
        kind: kind of the trees.
        answers: kind of the answers.
        layer: layer over trees; its input is as wide as the vectors of symbols.
        dropout: probability that an element of a symbol's vector, or of h_j for the read-out, is
            zeroed in training.

    Raises:
        ConfigurationError: a probability outside [0, 1).

    Example:
        >>> import torch
        >>> from throughtime import Forest, TreeLSTM
        >>> model = TreeModel(Trees(10, 2), Classes(5, per_step=True), TreeLSTM(4, 6))
        >>> trees = Forest.of(torch.tensor([-1, 3, 7]), torch.tensor([[0, 1], [0, 2]]))
        >>> model(trees).shape
        torch.Size([3, 5])
    """

    def __init__(self, kind: Trees, answers: Classes, layer: TreeLayer, dropout: float = 0.0):
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigurationError("dropout", got=dropout, expected="at least 0, below 1")
        self.embedding = nn.Embedding(kind.alphabet, layer.input_size)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.layer = layer
        self.readout = nn.Linear(layer.hidden_size, answers.count)
        self.dropout = nn.Dropout(dropout)

    def forward(self, trees: Forest) -> Float[Tensor, "node class"]:
        """Return the answer at each node.

        Arguments:
            trees: trees with symbols, -1 at nodes without one.
        """
        symbols = trees.inputs
        vectors = self.dropout(self.embedding(symbols.clamp(min=0)))
        read = trees.with_inputs(vectors.masked_fill((symbols < 0)[:, None], 0))
        return self.readout(self.dropout(self.layer(read).nodes))
