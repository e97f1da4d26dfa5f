"""The dtypes of results under autocast: those of torch.nn's layers, whichever engine runs."""

import torch
from torch import Tensor

from throughtime.core.state import State, map_state
from throughtime.engines.engine import Request, Result


def autocast_on(device: torch.device) -> bool:
    """Whether autocast is on for a device; there are devices, as meta, that have none."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def autocasts(request: Request) -> bool:
    """Whether autocast is on for a request; float64 is left alone."""
    inputs = request.inputs
    return inputs.dtype != torch.float64 and autocast_on(inputs.device)


def as_torch_casts(request: Request, result: Result) -> Result:
    """A result in the dtypes that torch.nn's layer of this cell returns under autocast.

    A cell that torch.nn does not have returns its outputs in autocast's dtype, and its state in the
    dtype of the state before the first step: a state that is carried on keeps its last bits.

    Arguments:
        request: which was run.
        result: in whatever dtypes the engine computed.
    """
    lower = torch.get_autocast_dtype(request.inputs.device.type)
    lowered = _lowered(request)

    def cast(state: State) -> State:
        fields = [
            map_state(
                lambda s, b, n=name: _to(s, lower if n in lowered else b.dtype), field, before
            )
            for name, field, before in zip(state._fields, state, request.state, strict=True)
        ]
        return type(state)(*fields)

    own = request.cell.torch_equivalent() is None
    outputs = _to(result.outputs, lower if own or "h" in lowered else request.state.h.dtype)
    states = None if result.states is None else cast(result.states)
    return Result(outputs, cast(result.state), states)


def _lowered(request: Request) -> tuple[str, ...]:
    """The fields of the state that come in autocast's dtype; the others stay as they are given."""
    cell, fields = request.cell, request.state._fields
    equivalent = cell.torch_equivalent()
    if equivalent is None:
        return ()
    if request.inputs.device.type != "cpu":
        return fields  # kernels of whole sequences, to which all operands are cast
    if equivalent == "GRU":
        return ()
    if equivalent == "LSTM":
        if cell.output_size != cell.hidden_size:  # h is a matrix product, c is none
            return ("h",)
        return fields if request.lengths is None else ()  # oneDNN's kernel knows no lengths
    return fields


def _to(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
