"""A layer under strict torch.export, which would otherwise read its Python line by line."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.core.binding import bind
from throughtime.core.state import state_tensors

_layers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


@torch._dynamo.assume_constant_result
def handle_of(layer: Any) -> int:
    """A number by which `run_layer` finds a layer: the graph holds no other objects than tensors.

    Arguments:
        layer: of ours.
    """
    _layers[id(layer)] = layer
    return id(layer)


@torch._dynamo.allow_in_graph
def run_layer(
    handle: int,
    tensors: Sequence[Tensor],
    input: Tensor,
    hx: Sequence[Any] | Tensor | None,
    lengths: Tensor | Sequence[int] | None,
    reset: Tensor | None,
    return_states: bool,
) -> list[Tensor]:
    """A layer's run as one node of the graph, of which later its operators are captured.

    Arguments:
        handle: of the layer.
        tensors: of the layer, in the order of `_tensor_names`.
        input, hx, lengths, reset, return_states: as of its call.

    Returns:
        The outputs, the tensors of the state, and those of the states.
    """
    layer = _layers[handle]
    bound = bind(layer, dict(zip(layer._tensor_names(), tensors, strict=True)))
    outputs, *states = bound._run(input, hx, lengths, reset, return_states)
    return [outputs, *(t for state in states for t in state_tensors(state))]
