"""LSTM, GRU and RNN: the layers of torch.nn, with the same arguments, weights and results."""

import functools
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from throughtime.cells.elman import ElmanCell, Nonlinearity
from throughtime.cells.gru import GRUCell
from throughtime.cells.lstm import LSTMCell, ProjectedLSTMCell
from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, OptionTypeError
from throughtime.core.initializers import Initializer
from throughtime.core.state import State
from throughtime.engines import Engine
from throughtime.layers.arguments import HState, LSTMState
from throughtime.layers.layer import RecurrentLayer


@final
class LSTM(RecurrentLayer[LSTMState, LSTMState]):
    """`torch.nn.LSTM`, and beyond it lengths, resets, states at every step, engines, initialisers.

        i, f, o = sigmoid(W x_t + b_ih + U h_{t-1} + b_hh)   g = tanh(...)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t), or W_hr (o * tanh(c_t)) with a projection

    Its state_dict is that of torch's layer. The equations are `cells.LSTMCell`'s.

    Arguments:
        input_size: The width of x_t.
        hidden_size: The width of each cell.
        num_layers: The number of cells on top of each other.
        bias: If True, there are b_ih and b_hh.
        batch_first: If True, inputs and outputs are (batch, time, width).
        dropout: The probability that an output of a layer but the last is zeroed in training.
        bidirectional: If True, a second cell in each layer runs from the end.
        proj_size: The width of h_t under a projection, below hidden_size; 0 for none.
        device, dtype: The device and dtype of the parameters.
        engine: "auto", "native", "vendor", "eager", or an engine object.
        initializers: Initialisers from `throughtime.initializers`, applied to each cell in order.

    Raises:
        ConfigurationError: Sizes or options out of range.

    Example:
        >>> layer = LSTM(3, 5, num_layers=2)
        >>> output, (h, c) = layer(torch.ones(4, 2, 3), lengths=[4, 1])
        >>> output.shape, c.shape
        (torch.Size([4, 2, 5]), torch.Size([2, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        engine: str | Engine = "auto",
        initializers: Sequence[Initializer] = (),
    ):
        expected = "a whole number; 0 for no projection"
        if not isinstance(proj_size, int):
            raise OptionTypeError("proj_size", got=repr(proj_size), expected=expected)
        if proj_size < 0:
            raise ConfigurationError("proj_size", got=repr(proj_size), expected=expected)
        super().__init__(
            functools.partial(_lstm, hidden_size, proj_size, bias, device, dtype),
            input_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            batch_first=batch_first,
            dropout=dropout,
            engine=engine,
            initializers=initializers,
        )
        self.bias, self.proj_size = bias, proj_size


@final
class GRU(RecurrentLayer[Tensor, HState]):
    """`torch.nn.GRU`, and beyond it lengths, resets, states at every step, engines, initialisers.

        r, z = sigmoid(W x_t + b_ih + U h_{t-1} + b_hh)
        n = tanh(W_n x_t + b_in + r * (U_n h_{t-1} + b_hn))
        h_t = (1 - z) * n + z * h_{t-1}

    Its state_dict is that of torch's layer. The equations are `cells.GRUCell`'s.

    Arguments:
        input_size: The width of x_t.
        hidden_size: The width of each cell.
        num_layers: The number of cells on top of each other.
        bias: If True, there are b_ih and b_hh.
        batch_first: If True, inputs and outputs are (batch, time, width).
        dropout: The probability that an output of a layer but the last is zeroed in training.
        bidirectional: If True, a second cell in each layer runs from the end.
        device, dtype: The device and dtype of the parameters.
        engine: "auto", "native", "vendor", "eager", or an engine object.
        initializers: Initialisers from `throughtime.initializers`, applied to each cell in order.
        proj_size: 0, as in torch's layer: only an LSTM has a projection.

    Raises:
        ConfigurationError: Sizes or options out of range.

    Example:
        >>> output, h = GRU(3, 5, batch_first=True)(torch.ones(2, 4, 3))
        >>> output.shape, h.shape
        (torch.Size([2, 4, 5]), torch.Size([1, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        engine: str | Engine = "auto",
        initializers: Sequence[Initializer] = (),
        proj_size: int = 0,
    ):
        _refuse_projection("GRU", proj_size)
        super().__init__(
            functools.partial(_gru, hidden_size, bias, device, dtype),
            input_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            batch_first=batch_first,
            dropout=dropout,
            engine=engine,
            initializers=initializers,
        )
        self.bias, self.proj_size = bias, proj_size


@final
class RNN(RecurrentLayer[State, State]):
    """`torch.nn.RNN`, and beyond it lags, lengths, resets, states, engines, initialisers.

        h_t = f(W x_t + b_ih + b_hh + sum over d in lags of U^(d) h_{t-d})

    Its state_dict is that of torch's layer where the only lag is 1. The equation is
    `cells.ElmanCell`'s.

    Arguments:
        input_size: The width of x_t.
        hidden_size: The width of each cell.
        num_layers: The number of cells on top of each other.
        nonlinearity: f: "tanh", "relu" or "identity".
        bias: If True, there are b_ih and b_hh.
        batch_first: If True, inputs and outputs are (batch, time, width).
        dropout: The probability that an output of a layer but the last is zeroed in training.
        bidirectional: If True, a second cell in each layer runs from the end.
        device, dtype: The device and dtype of the parameters.
        lags: The past outputs that each step reads, as (1, 21) for a skip connection.
        engine: "auto", "native", "vendor", "eager", or an engine object.
        initializers: Initialisers from `throughtime.initializers`, applied to each cell in order.
        proj_size: 0, as in torch's layer: only an LSTM has a projection.

    Raises:
        ConfigurationError: Sizes or options out of range.

    Example:
        >>> output, h = RNN(3, 5)(torch.ones(4, 2, 3))
        >>> output.shape, h.shape
        (torch.Size([4, 2, 5]), torch.Size([1, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Nonlinearity = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        lags: Sequence[int] = (1,),
        engine: str | Engine = "auto",
        initializers: Sequence[Initializer] = (),
        proj_size: int = 0,
    ):
        _refuse_projection("RNN", proj_size)
        super().__init__(
            functools.partial(_rnn, hidden_size, nonlinearity, tuple(lags), bias, device, dtype),
            input_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            batch_first=batch_first,
            dropout=dropout,
            engine=engine,
            initializers=initializers,
        )
        self.bias, self.proj_size = bias, proj_size
        self.nonlinearity, self.lags = nonlinearity, tuple(lags)


def _refuse_projection(layer: str, proj_size: int) -> None:
    if proj_size != 0:
        raise ConfigurationError(
            f"proj_size of {layer}",
            got=repr(proj_size),
            expected="0, since only an LSTM has a projection",
            fix="Use LSTM(..., proj_size=...).",
        )


def _lstm(
    hidden_size: int,
    proj_size: int,
    bias: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    input_size: int,
) -> Cell:
    if proj_size:
        return ProjectedLSTMCell(
            input_size, hidden_size, proj_size=proj_size, bias=bias, device=device, dtype=dtype
        )
    return LSTMCell(input_size, hidden_size, bias=bias, device=device, dtype=dtype)


def _gru(
    hidden_size: int,
    bias: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    input_size: int,
) -> Cell:
    return GRUCell(input_size, hidden_size, bias=bias, device=device, dtype=dtype)


def _rnn(
    hidden_size: int,
    nonlinearity: Nonlinearity,
    lags: tuple[int, ...],
    bias: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    input_size: int,
) -> Cell:
    return ElmanCell(
        input_size,
        hidden_size,
        nonlinearity=nonlinearity,
        lags=lags,
        bias=bias,
        device=device,
        dtype=dtype,
    )
