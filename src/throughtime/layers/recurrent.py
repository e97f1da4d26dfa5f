"""The layers that users make: torch.nn's LSTM, GRU and RNN, and one of any cell."""

import difflib
import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, final

import torch
from torch import Tensor, nn

from throughtime import cells
from throughtime.cells.elman import ElmanCell, Nonlinearity
from throughtime.cells.gru import GRUCell
from throughtime.cells.lstm import LSTMCell, ProjectedLSTMCell
from throughtime.core.cell import Cell, converted
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
        make_cell = (
            functools.partial(ProjectedLSTMCell, proj_size=proj_size) if proj_size else LSTMCell
        )
        super().__init__(
            functools.partial(
                make_cell, hidden_size=hidden_size, bias=bias, device=device, dtype=dtype
            ),
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
            functools.partial(
                GRUCell, hidden_size=hidden_size, bias=bias, device=device, dtype=dtype
            ),
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
            functools.partial(
                ElmanCell,
                hidden_size=hidden_size,
                nonlinearity=nonlinearity,
                lags=tuple(lags),
                bias=bias,
                device=device,
                dtype=dtype,
            ),
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


_CELLS = {
    "rnn": "ElmanCell",
    **{name.removesuffix("Cell").lower(): name for name in cells.__all__},
}
_OF_TORCH = {nn.LSTMCell: "LSTMCell", nn.GRUCell: "GRUCell", nn.RNNCell: "ElmanCell"}
_LAYERS_OF_TORCH = {nn.LSTM: "LSTM", nn.GRU: "GRU", nn.RNN: "RNN"}


@final
class Recurrent(RecurrentLayer[State, State]):
    """A layer of any cell: a user's own, or one of `throughtime.cells`.

    Arguments:
        cell: A class of cell, or another function that makes one: it is called for each layer and
            direction with the width of its input, `hidden_size` and the options; or one cell, the
            only one, whose parameters and buffers become the layer's own.
        input_size: The width of x_t; left out with a cell.
        hidden_size: The width of each cell; left out with a cell.
        num_layers: The number of cells on top of each other.
        bidirectional: If True, a second cell in each layer runs from the end.
        batch_first: If True, inputs and outputs are (batch, time, width).
        dropout: The probability that an output of a layer but the last is zeroed in training.
        engine: "auto", "native", "vendor", "eager", or an engine object.
        initializers: Initialisers from `throughtime.initializers`, applied to each cell in order.
        device, dtype: The device and dtype of the parameters; a given cell is converted.
        options: The further arguments of the class of cell, as `lags=(1, 21)`.

    Raises:
        ConfigurationError: sizes or options out of range, or sizes beside a cell that has its own.
        OptionTypeError: `cell` is no cell, and nothing that makes cells.

    Example:
        >>> from throughtime.cells import ElmanCell
        >>> layer = Recurrent(ElmanCell, 3, 5, num_layers=2, lags=(1, 7))
        >>> output, state = layer(torch.ones(4, 2, 3))
        >>> output.shape, state.h.shape, len(state.past)
        (torch.Size([4, 2, 5]), torch.Size([2, 2, 5]), 6)
        >>> from throughtime.cells import LSTMCell
        >>> from throughtime.wiring import ZoneoutCell
        >>> layer = Recurrent(lambda i, h: ZoneoutCell(LSTMCell(i, h)), 3, 5, bidirectional=True)
        >>> layer(torch.ones(4, 2, 3))[0].shape
        torch.Size([4, 2, 10])
    """

    def __init__(
        self,
        cell: Callable[..., Cell] | Cell,
        input_size: int | None = None,
        hidden_size: int | None = None,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
        engine: str | Engine = "auto",
        initializers: Sequence[Initializer] = (),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ):
        given_cell = cell if isinstance(cell, Cell) else None
        if isinstance(cell, Cell):
            given = {"input_size": input_size, "hidden_size": hidden_size, **options}
            if any(v is not None for v in given.values()) or num_layers > 1 or bidirectional:
                raise ConfigurationError(
                    "Recurrent",
                    got="a cell beside sizes, layers, directions or options",
                    expected="the cell alone, or what makes such cells: its class, or a function",
                )
            if device is not None or dtype is not None:
                cell.to(device=device, dtype=dtype)
            start = converted(cell, torch.clone)
            make_cell = functools.partial(_copy, start)  # for `reset_parameters`
            input_size = cell.input_size
            for initializer in initializers:
                initializer(cell)
        else:
            _check_makes_cells(cell)
            if input_size is None or hidden_size is None:
                raise ConfigurationError(
                    "Recurrent",
                    got="what makes a cell",
                    expected="input_size and hidden_size too",
                )
            make_cell = functools.partial(_make, cell, hidden_size, options, device, dtype)
        super().__init__(
            make_cell,
            input_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            batch_first=batch_first,
            dropout=dropout,
            engine=engine,
            initializers=initializers,
            cell=given_cell,
        )
        self._options = options

    def extra_repr(self) -> str:
        """The cell, the sizes and the options that differ from their defaults."""
        options = [f"{name}={value!r}" for name, value in self._options.items()]
        return ", ".join([_title(self._cells[0]), super().extra_repr(), *options])


def _title(cell: Cell) -> str:
    within = cell._modules.get("cell")
    inner = f"({_title(within)})" if isinstance(within, Cell) else ""
    return type(cell).__name__ + inner


def _make(
    make: Callable[..., Cell],
    hidden_size: int,
    options: dict[str, Any],
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    input_size: int,
) -> Cell:
    made = make(input_size, hidden_size, **options)
    if not isinstance(made, Cell):
        _refuse_cell("Recurrent: what the given function makes", made)
    if device is None and dtype is None:
        return made
    return converted(made, lambda t: t.to(device, dtype if t.is_floating_point() else None))


def _copy(start: Cell, input_size: int) -> Cell:
    del input_size
    return converted(start, torch.clone)


def _check_makes_cells(make: object) -> None:
    """Raise OptionTypeError unless it is a class of cell, or a function."""
    if isinstance(make, type) and issubclass(make, Cell):
        return
    if isinstance(make, nn.Module) or not callable(make):
        _refuse_cell("Recurrent", make)
    if isinstance(make, type) and issubclass(make, nn.Module):
        _refuse_cell("Recurrent", make)


def _refuse_cell(subject: str, given: object) -> NoReturn:
    """Raise OptionTypeError for what is no cell."""
    kind = given if isinstance(given, type) else type(given)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    raise OptionTypeError(
        subject,
        got=repr(given) if isinstance(given, str) else name,
        expected="a class of cell, a function that makes cells, or a cell",
        fix=_advice(given, kind),
    )


def _advice(given: object, kind: type) -> str:
    if isinstance(given, str):
        name = given.lower().removesuffix("cell").strip("_- ")
        near = difflib.get_close_matches(name, _CELLS, n=1)
        if not near:
            return "The cells are classes of throughtime.cells."
        found = _CELLS[near[0]]
        return f"Write Recurrent(throughtime.cells.{found}, input_size, hidden_size)."
    for theirs, ours in _OF_TORCH.items():
        if issubclass(kind, theirs):
            return f"Write Recurrent(throughtime.cells.{ours}, input_size, hidden_size)."
    for theirs, ours in _LAYERS_OF_TORCH.items():
        if issubclass(kind, theirs):
            return f"Write throughtime.{ours}(input_size, hidden_size), which is a layer."
    if issubclass(kind, RecurrentLayer):
        return f"{kind.__name__} is a layer: use it alone."
    return "Write a subclass of throughtime.GatedCell, or of throughtime.Cell."
