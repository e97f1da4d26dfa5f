"""A recurrent layer with a linear readout: one answer, or answers at steps."""

from typing import Any, final

from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.layers import RecurrentLayer
from throughtime.tasks.kinds import Bits, Classes, Values


@final
class SequenceModel(nn.Module):
    """A recurrent layer and a linear readout of its output.

        y = V h_T + b at each sequence's last valid step, or y_t = V h_t + b at every step

    A bidirectional layer is read, after the last step, at the end of each direction.

    Arguments:
        recurrent: the layer, reading (time, batch, input).
        answers: kind of the answers, after the last step or at steps.
        alphabet: number of symbols, where the model reads symbols, which it embeds as wide as the
            layer's input; None for vectors.

    Example:
        >>> import torch
        >>> from throughtime import LSTM
        >>> from throughtime.tasks.kinds import Classes
        >>> model = SequenceModel(LSTM(1, 5), Classes(10))
        >>> model(torch.ones(64, 2, 1)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        recurrent: RecurrentLayer,
        answers: Classes | Values | Bits,
        alphabet: int | None = None,
    ):
        super().__init__()
        width = recurrent.input_size
        self.embedding = None if alphabet is None else nn.Embedding(alphabet, width)
        self.recurrent = recurrent
        self.readout = nn.Linear(recurrent.output_size, answers.width)
        self.answers = answers

    def forward(
        self,
        inputs: Float[Tensor, "time batch input"] | Int[Tensor, "time batch"],
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "*time batch output"]:
        """Return the answers.

        Arguments:
            inputs: (time, batch, input) vectors, or (time, batch) symbols.
            lengths: (batch,) valid steps, or None where all sequences fill the time axis.

        Returns:
            (batch, output), or (time, batch, output) where answers are due at steps.
        """
        read = inputs if self.embedding is None else self.embedding(inputs)
        outputs, state = self.recurrent(read, lengths=lengths)
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
