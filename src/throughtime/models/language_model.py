"""A recurrent layer that reads symbols, and the probabilities of the next one."""

from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.core.state import map_state
from throughtime.layers import RecurrentLayer
from throughtime.models.readout_loss import readout_losses

_EMBEDDING_RANGE = 0.1  # of the first embedding, uniform: our choice


@final
class LanguageModel(nn.Module):
    """A recurrent layer that reads symbols, and a softmax over the next one.

        log p(x_{t+1} | x_1 ... x_t) = log softmax(V h_t + b)

    With an alphabet, each symbol is read as a row of an embedding, which is drawn uniformly from
    [-0.1, 0.1] (our choice). Without one, it is read as a one-hot vector: the layer's input weights
    are the embedding.

    Arguments:
        recurrent: layer that reads (time, batch, input), forward in time.
        alphabet: number of symbols; None for one-hot vectors as wide as the layer's input.
        tied: If True, V is the embedding (Press & Wolf 2017; Inan et al. 2017).
        dropout: probability that an element of an embedded symbol or of an output is zeroed in
            training (Zaremba et al. 2014). Between its levels, the layer has a dropout of its own.
        cutoffs: first symbols of the clusters of rarer symbols, in an adaptive softmax (Grave et
            al. 2017) by `torch.nn.AdaptiveLogSoftmaxWithLoss`; frequent symbols have small numbers.
            None for the whole softmax.

    Attributes:
        alphabet: number of symbols.

    Raises:
        ConfigurationError: a bidirectional layer, which reads the symbols that it is to predict;
            tied weights without an embedding, of another width than the output, or with cutoffs;
            a dropout outside [0, 1]; or cutoffs that do not rise below the alphabet, or are too
            many for the width of the outputs.

    Example:
        >>> from throughtime import GRU
        >>> model = LanguageModel(GRU(5, 8))
        >>> logits, state = model(torch.tensor([[0, 4], [3, 2]]))
        >>> logits.shape, state.shape
        (torch.Size([2, 2, 5]), torch.Size([1, 2, 8]))
        >>> LanguageModel(GRU(8, 8), 5, tied=True).alphabet
        5
    """

    def __init__(
        self,
        recurrent: RecurrentLayer,
        alphabet: int | None = None,
        *,
        tied: bool = False,
        dropout: float = 0.0,
        cutoffs: Sequence[int] = (),
    ):
        super().__init__()
        if recurrent.bidirectional:
            raise ConfigurationError(
                "a language model",
                got="a bidirectional layer",
                expected="a layer that goes forward in time",
                fix="Leave bidirectional=true out.",
            )
        if not 0 <= dropout <= 1:
            raise ConfigurationError("dropout", got=dropout, expected="0 to 1")
        width = recurrent.output_size
        self.alphabet = recurrent.input_size if alphabet is None else alphabet
        self.dropout = float(dropout)
        self.embedding: nn.Embedding | None = None
        if alphabet is not None:
            self.embedding = nn.Embedding(alphabet, recurrent.input_size)
            nn.init.uniform_(self.embedding.weight, -_EMBEDDING_RANGE, _EMBEDDING_RANGE)
        self.recurrent = recurrent
        self.readout: nn.Linear | nn.AdaptiveLogSoftmaxWithLoss
        if cutoffs:
            _check_cutoffs(cutoffs, self.alphabet, width)
            self.readout = nn.AdaptiveLogSoftmaxWithLoss(width, self.alphabet, list(cutoffs))
        else:
            self.readout = nn.Linear(width, self.alphabet)
        if tied:
            self._tie(width)

    def _tie(self, width: int) -> None:
        if self.embedding is None or isinstance(self.readout, nn.AdaptiveLogSoftmaxWithLoss):
            raise ConfigurationError(
                "tied weights",
                got="no embedding" if self.embedding is None else "an adaptive softmax",
                expected="an embedding and a whole softmax",
                fix="Give the embedding a width, without cutoffs, or leave tied out.",
            )
        if self.embedding.embedding_dim != width:
            raise ConfigurationError(
                "tied weights",
                got=f"an embedding of {self.embedding.embedding_dim} and outputs of {width}",
                expected="equal widths",
                fix=f"Make the embedding {width} wide, or leave tied out.",
            )
        self.readout.weight = self.embedding.weight

    def embedded(
        self, symbols: Int[Tensor, "*steps"] | Float[Tensor, "*steps alphabet"]
    ) -> Float[Tensor, "*steps input"]:
        """Return the vectors that the layer reads, without dropout.

        Arguments:
            symbols: symbols, or a weight for each: then the weighted sum of their vectors.
        """
        if symbols.is_floating_point():
            return symbols if self.embedding is None else symbols @ self.embedding.weight
        if self.embedding is not None:
            return self.embedding(symbols)
        like = next(self.recurrent.parameters(), torch.empty(0))
        return F.one_hot(symbols, self.alphabet).to(like.dtype)

    @property
    def plain(self) -> bool:
        """True if the layer's outputs reach a linear readout as they are: no dropout is drawn."""
        drawn = self.training and self.dropout > 0
        return isinstance(self.readout, nn.Linear) and not drawn

    def features(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "time batch output"], Any]:
        """Return what the readout reads after each symbol, and the state after the last one.

        Arguments:
            symbols: symbols, or (time, batch, alphabet) weights of them.
            state: state after the symbols before; None at the start of a text.
        """
        x = self.embedded(symbols)
        if self.embedding is not None:
            x = F.dropout(x, self.dropout, self.training)
        outputs, state = self.recurrent(x, state)
        return F.dropout(outputs, self.dropout, self.training), state

    def forward(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "time batch alphabet"], Any]:
        """Return the logits of each next symbol, and the state after the last one.

        Arguments:
            symbols: (time, batch), or (time, batch, alphabet) weights of symbols.
            state: state after the symbols before; None at the start of a text.
        """
        features, state = self.features(symbols, state)
        return self.logits(features), state

    def logits(
        self, features: Float[Tensor, "time batch output"]
    ) -> Float[Tensor, "time batch alphabet"]:
        """Return the logits of each next symbol.

        The logits of an adaptive softmax are logarithms of probabilities.

        Arguments:
            features: inputs of the readout.
        """
        if isinstance(self.readout, nn.Linear):
            return self.readout(features)
        logits = self.readout.log_prob(features.flatten(0, 1))
        return logits.view(*features.shape[:2], self.alphabet)

    def losses(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        targets: Int[Tensor, "time batch"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "time batch"], Any]:
        """Return the negative log-likelihood of each target in nats, and the state after the last.

        An adaptive softmax computes the probabilities of the targets' clusters alone.

        Arguments:
            symbols: symbols that are read.
            targets: symbol that follows each; -1 where none is due: its loss is 0.
            state: state before them; None at the start of a text.
        """
        features, state = self.features(symbols, state)
        if isinstance(self.readout, nn.Linear):
            return readout_losses(self.readout, features, targets), state
        due = targets >= 0
        known = self.readout(features[due], targets[due]).output
        return features.new_zeros(targets.shape).masked_scatter(due, -known), state

    def select(self, state: Any, rows: Int[Tensor, " rows"]) -> Any:
        """Return the state of some sequences of a batch.

        Arguments:
            state: state of the batch.
            rows: numbers of the sequences, any of them more than once.
        """
        return map_state(lambda field: field.index_select(1, rows), state)


def _check_cutoffs(cutoffs: Sequence[int], alphabet: int, width: int) -> None:
    rising = all(a < b for a, b in zip([0, *cutoffs], [*cutoffs, alphabet], strict=True))
    if not rising:
        raise ConfigurationError(
            "cutoffs",
            got=", ".join(map(str, cutoffs)),
            expected=f"whole numbers that rise from above 0 to below {alphabet}, the alphabet",
        )
    if width < 4 ** len(cutoffs):  # each cluster reads a quarter of the width of the one before
        raise ConfigurationError(
            "cutoffs",
            got=f"{len(cutoffs)} for outputs of width {width}",
            expected=f"a width of at least {4 ** len(cutoffs)}",
            fix="Give fewer cutoffs, or make the layer wider.",
        )
