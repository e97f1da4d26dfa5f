"""The weights that cells share with torch's layers: their names, shapes, order and first values."""

import functools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import nn

from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, OptionTypeError


def set_sizes(
    cell: Cell, input_size: int, hidden_size: int, output_size: int | None = None
) -> None:
    """Check the sizes of a cell and set them.

    Raises:
        ConfigurationError: the input or hidden size is below 1.
        OptionTypeError: one of them is no whole number.
    """
    check_size("input_size", input_size)
    check_size("hidden_size", hidden_size)
    cell.input_size, cell.hidden_size = input_size, hidden_size
    cell.output_size = hidden_size if output_size is None else output_size


def add_weights(
    cell: Cell,
    gates: int,
    *,
    lags: Sequence[int] = (1,),
    bias: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> None:
    """Give a cell W_ih, a W_hh for each lag, b_ih and b_hh, drawn in torch's order.

    weight_ih is (gates * hidden, input), weight_hh (gates * hidden, output) for lag 1,
    weight_hh_lag21 for lag 21; bias_ih and bias_hh are (gates * hidden,), bias_hh only beside a
    weight_hh.

    Raises:
        OptionTypeError: `bias` is neither True nor False.
    """
    check_flag("bias", bias)
    rows = gates * cell.hidden_size
    shapes: dict[str, tuple[int, ...] | None] = {"weight_ih": (rows, cell.input_size)}
    shapes |= {recurrent_weight(lag): (rows, cell.output_size) for lag in lags}
    shapes |= {"bias_ih": (rows,) if bias else None}
    shapes |= {"bias_hh": (rows,) if bias and lags else None}
    for name, shape in shapes.items():
        parameter = None if shape is None else draw(cell, *shape, device=device, dtype=dtype)
        cell.register_parameter(name, parameter)


def draw(
    cell: Cell, *shape: int, device: torch.device | str | None, dtype: torch.dtype | None
) -> Float[nn.Parameter, "..."]:
    """Return a parameter from U(-1/sqrt(hidden), 1/sqrt(hidden)), as torch draws it."""
    bound = 1 / math.sqrt(cell.hidden_size)
    return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype).uniform_(-bound, bound))


@functools.cache
def recurrent_weight(lag: int) -> str:
    """Return the name of the recurrent matrix of a lag: weight_hh, weight_hh_lag21."""
    return "weight_hh" if lag == 1 else f"weight_hh_lag{lag}"


def check_size(name: str, value: object) -> None:
    """Raise ConfigurationError unless the value is a whole number of at least 1."""
    expected = "a whole number of at least 1"
    if not isinstance(value, int) or isinstance(value, bool):
        raise OptionTypeError(name, got=repr(value), expected=expected)
    if value < 1:
        raise ConfigurationError(name, got=repr(value), expected=expected)


def check_flag(name: str, value: object) -> None:
    """Raise OptionTypeError unless the value is True or False."""
    if not isinstance(value, bool):
        raise OptionTypeError(name, got=repr(value), expected="True or False")
