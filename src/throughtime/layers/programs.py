"""A layer under torch.jit.script and strict torch.export, which compile or read its Python.

This module is imported where it is used: torch._dynamo takes its time to load.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.cell import bind
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import state_tensors

_layers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def scriptable(layer: Any) -> nn.Module:
    """The layer of torch.nn that computes the same, on the very parameters of ours.

    torch puts it in the place of ours within the model that is compiled, and leaves it there. So a
    call from Python still runs our layer, with all that torch's has not.

    Raises:
        ConfigurationError: torch.nn has no such layer.
    """
    equivalents = {cell.torch_equivalent for cell in layer.cells()}
    equivalent = equivalents.pop() if len(equivalents) == 1 else None
    plain = all(name in layer._parameters for name in layer._tensor_names())
    if equivalent is None or not plain:
        raise ConfigurationError(
            f"torch.jit.script of {type(layer).__name__}",
            got="weights that are parametrised" if equivalent else "a layer that torch.nn has not",
            expected="an LSTM, GRU or RNN as torch.nn has them",
            fix="Use torch.export or torch.jit.trace, which serve every layer.",
        )
    theirs = _empty(layer, equivalent).train(layer.training)
    for name in layer._tensor_names():
        theirs.register_parameter(name, layer._parameters[name])
    theirs._flat_weights = [getattr(theirs, name) for name in theirs._flat_weights_names]

    def call(*arguments: Any, **options: Any) -> Any:
        return layer.train(theirs.training)(*arguments, **options)

    vars(theirs)["_compiled_call_impl"] = call  # what torch.nn.Module calls where it is set
    return theirs


def _empty(layer: Any, equivalent: str) -> nn.RNNBase:
    options: dict[str, Any] = {
        "num_layers": layer.num_layers,
        "bias": any(name.startswith("bias") for name in layer._tensor_names()),
        "batch_first": layer.batch_first,
        "dropout": layer.dropout if layer.num_layers > 1 else 0.0,
        "bidirectional": layer.bidirectional,
        "device": "meta",
    }
    if equivalent == "GRU":
        return nn.GRU(layer.input_size, layer.hidden_size, **options)
    if equivalent == "LSTM":
        width = layer.output_size // layer.num_directions
        projection = width if width != layer.hidden_size else 0
        return nn.LSTM(layer.input_size, layer.hidden_size, proj_size=projection, **options)
    nonlinearity = equivalent.removeprefix("RNN_").lower()
    return nn.RNN(layer.input_size, layer.hidden_size, nonlinearity=nonlinearity, **options)


@torch._dynamo.assume_constant_result
def handle_of(layer: Any) -> int:
    """A number by which `run_layer` finds a layer: the graph holds no objects but tensors."""
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
        tensors: The tensors of the layer, in the order of `_tensor_names`.

    Returns:
        The outputs, the tensors of the state, and those of the states.
    """
    layer = _layers[handle]
    bound = bind(layer, dict(zip(layer._tensor_names(), tensors, strict=True)))
    outputs, *states = bound._run(input, hx, lengths, reset, return_states)
    return [outputs, *(t for state in states for t in state_tensors(state))]
