"""A language model: the probability of each symbol, given those before it."""

from typing import Any, final

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.layers import RecurrentLayer


@final
class LanguageModel(nn.Module):
    """A recurrent layer that reads symbols, and a softmax over the next one.

        log p(x_{t+1} | x_1 ... x_t) = log softmax(V h_t + b)

    The layer reads each symbol as a one-hot vector: its input weights are the embedding.

    Arguments:
        recurrent: layer that reads (time, batch, alphabet), forward in time.

    Raises:
        ConfigurationError: a bidirectional layer, which reads the symbols that it is to predict.

    Example:
        >>> import torch
        >>> from throughtime import GRU
        >>> model = LanguageModel(GRU(5, 8))
        >>> logits, state = model(torch.tensor([[0, 4], [3, 2]]))
        >>> logits.shape, state.shape
        (torch.Size([2, 2, 5]), torch.Size([1, 2, 8]))
    """

    def __init__(self, recurrent: RecurrentLayer):
        super().__init__()
        if recurrent.bidirectional:
            raise ConfigurationError(
                "a language model",
                got="a bidirectional layer",
                expected="a layer that goes forward in time",
                fix="Leave bidirectional=true out.",
            )
        self.recurrent = recurrent
        self.readout = nn.Linear(recurrent.output_size, recurrent.input_size)

    def forward(
        self, symbols: Int[Tensor, "time batch"], state: Any = None
    ) -> tuple[Float[Tensor, "time batch alphabet"], Any]:
        """Return the logits of each next symbol, and the state after the last one.

        Arguments:
            symbols: (time, batch).
            state: state after the symbols before; None at the start of a text.
        """
        one_hot = F.one_hot(symbols, self.recurrent.input_size).to(self.readout.weight.dtype)
        outputs, state = self.recurrent(one_hot, state)
        return self.readout(outputs), state
