"""A recurrent layer with a linear readout: one answer, answers at steps, or the next symbol."""

from typing import Any, final

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import map_state
from throughtime.layers import RecurrentLayer
from throughtime.tasks.kinds import Classes, Values


@final
class SequenceModel(nn.Module):
    """A recurrent layer and a linear readout of its output.

        y = V h_T + b at each sequence's last valid step, or y_t = V h_t + b at every step

    A bidirectional layer is read, after the last step, at the end of each direction.

    Arguments:
        recurrent: the layer, reading (time, batch, input).
        answers: kind of the answers, after the last step or at steps.

    Example:
        >>> import torch
        >>> from throughtime import LSTM
        >>> from throughtime.tasks.kinds import Classes
        >>> model = SequenceModel(LSTM(1, 5), Classes(10))
        >>> model(torch.ones(64, 2, 1)).shape
        torch.Size([2, 10])
    """

    def __init__(self, recurrent: RecurrentLayer, answers: Classes | Values):
        super().__init__()
        self.recurrent = recurrent
        self.readout = nn.Linear(recurrent.output_size, answers.width)
        self.answers = answers

    def forward(
        self,
        inputs: Float[Tensor, "time batch input"],
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "*time batch output"]:
        """Return the answers.

        Arguments:
            inputs: (time, batch, input).
            lengths: (batch,) valid steps, or None where all sequences fill the time axis.

        Returns:
            (batch, output), or (time, batch, output) where answers are due at steps.
        """
        outputs, state = self.recurrent(inputs, lengths=lengths)
        if self.answers.per_step:
            return self.readout(outputs)
        h = state if isinstance(state, Tensor) else state.h
        ends = h[-self.recurrent.num_directions :]  # of the top layer
        return self.readout(ends.transpose(0, 1).flatten(1))

    def carried(
        self, inputs: Float[Tensor, "time batch input"], state: Any = None
    ) -> tuple[Float[Tensor, "time batch output"], Any]:
        """Return the answers at every step of a part of a stream, and the state after it.

        Arguments:
            inputs: (time, batch, input).
            state: state after the part before; None at the start.
        """
        outputs, state = self.recurrent(inputs, state)
        return self.readout(outputs), state

    def stepwise(self) -> tuple[Cell, nn.Module]:
        """Return the layer as one cell, and the read-out, for learners.

        Raises:
            ConfigurationError: the layer is bidirectional, or has dropout between its levels.
        """
        return self.recurrent.as_cell(), self.readout


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

    @property
    def alphabet(self) -> int:
        """The number of symbols."""
        return self.readout.out_features

    def losses(
        self, symbols: Int[Tensor, "time batch"], targets: Int[Tensor, "time batch"], state: Any
    ) -> tuple[Float[Tensor, "time batch"], Any]:
        """Return the negative log-likelihood of each target in nats, and the state after the last.

        Arguments:
            symbols: Symbols that are read.
            targets: Symbol that follows each; -1 where none is due: its loss is 0.
            state: State before them; None at the start of a text.
        """
        logits, state = self(symbols, state)
        losses = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none"
        )
        return losses.view(targets.shape), state

    def select(self, state: Any, rows: Int[Tensor, " rows"]) -> Any:
        """Return the state of some sequences of a batch.

        Arguments:
            state: State of the batch.
            rows: Numbers of the sequences, any of them more than once.
        """
        return map_state(lambda field: field.index_select(1, rows), state)
