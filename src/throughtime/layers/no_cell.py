"""What is given to `Recurrent` in place of a cell: the error says what to write."""

import difflib
from typing import NoReturn

from torch import nn

from throughtime import cells
from throughtime.core.cell import Cell
from throughtime.core.errors import OptionTypeError
from throughtime.layers.layer import RecurrentLayer

_CELLS = {
    "rnn": "ElmanCell",
    **{name.removesuffix("Cell").lower(): name for name in cells.__all__},
}
_OF_TORCH = {nn.LSTMCell: "LSTMCell", nn.GRUCell: "GRUCell", nn.RNNCell: "ElmanCell"}
_LAYERS_OF_TORCH = {nn.LSTM: "LSTM", nn.GRU: "GRU", nn.RNN: "RNN"}


def check_makes_cells(make: object) -> None:
    """Raises OptionTypeError unless it is a class of cell, or a function."""
    if isinstance(make, type) and issubclass(make, Cell):
        return
    if isinstance(make, nn.Module) or not callable(make):
        refuse_cell("Recurrent", make)
    if isinstance(make, type) and issubclass(make, nn.Module):
        refuse_cell("Recurrent", make)


def refuse_cell(subject: str, given: object) -> NoReturn:
    """Raise OptionTypeError for what is no cell.

    Arguments:
        subject: of the message.
        given: a class or an object.
    """
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
