"""The protocol of models that give the next symbol: language models, decoders."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class NextSymbol(Protocol):
    """A model of the next symbol of a sequence, given those before it.

    A decoder's state holds all that it needs of its source, so that generation, scoring and
    feedback do not depend on the kind of the model.
    """

    @property
    def alphabet(self) -> int:
        """The number of symbols."""
        ...

    def __call__(
        self, symbols: Int[Tensor, "time batch"], state: Any = None
    ) -> tuple[Float[Tensor, "time batch alphabet"], Any]:
        """Return the logits of each next symbol, and the state after the last one.

        Arguments:
            symbols: Symbols that are read; or (time, batch, alphabet) weights of symbols, of which
                the model reads the weighted sum of their vectors.
            state: State before them; None at the start, for a model without a source.
        """
        ...

    def losses(
        self, symbols: Int[Tensor, "time batch"], targets: Int[Tensor, "time batch"], state: Any
    ) -> tuple[Float[Tensor, "time batch"], Any]:
        """Return the negative log-likelihood of each target in nats, and the state after the last.

        Arguments:
            symbols: Symbols that are read.
            targets: Symbol that follows each; -1 where none is due: its loss is 0.
            state: State before them.
        """
        ...

    def select(self, state: Any, rows: Int[Tensor, " rows"]) -> Any:
        """Return the state of some sequences of a batch.

        Arguments:
            state: State of the batch.
            rows: Numbers of the sequences, any of them more than once.
        """
        ...
