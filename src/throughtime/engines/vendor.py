"""The vendor engine: torch's own LSTM, GRU and RNN (oneDNN, cuDNN), where the maths is the same."""

import functools
from typing import final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from throughtime.core.capture import transformed
from throughtime.core.state import State
from throughtime.engines.engine import (
    Engine,
    Refusal,
    Request,
    Result,
    Runner,
    autocasts,
)

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


@final
class VendorEngine(Engine):
    """Runs a cell whose `torch_equivalent` names a layer of torch.nn by the kernel of that layer.

    On CUDA, cuDNN has no second derivative: there `engine="eager"` serves double backward.
    """

    name = "vendor"

    def prepare(self, request: Request) -> Runner | Refusal:
        """Refuse other cells, resets, states at every step, and functional transforms."""
        if request.cell.torch_equivalent is None:
            return Refusal(f"{type(request.cell).__name__} is none of torch's LSTM, GRU and RNN")
        if request.resets is not None:
            return Refusal("torch's kernels have no per-step reset")
        if request.outputs == "states":
            return Refusal("torch's kernels return the states of the last step only")
        if torch.onnx.is_in_onnx_export() and hasattr(request.cell, "weight_hr"):
            return Refusal("ONNX has no LSTM with a projection")
        if request.captured is not None and request.lengths is not None:
            return Refusal(f"{request.captured}, and torch's kernels read the lengths")
        if isinstance(request.inputs.shape[0], torch.SymInt):
            return Refusal(
                "torch's kernels are captured for one number of time steps, and this is dynamic"
            )
        if not request.options.stores_all:
            return Refusal("torch's kernels store every step, without checkpoints")
        if _is_half_lstm(request):
            lower = str(torch.get_autocast_dtype("cpu")).removeprefix("torch.")
            return Refusal(f"oneDNN has no LSTM in {lower}, the dtype of autocast, on this CPU")
        why = transformed()
        return functools.partial(_run, request) if why is None else Refusal(why)


def _run(request: Request) -> Result:
    cell, equivalent = request.cell, request.cell.torch_equivalent
    assert equivalent is not None, "refused by prepare"
    weights = [w for w in (getattr(cell, name, None) for name in _NAMES) if w is not None]
    has_bias = getattr(cell, "bias_ih", None) is not None
    state = tuple(field.unsqueeze(0) for field in request.state)
    hx = state if equivalent == "LSTM" else state[0]
    kernel = {
        "LSTM": torch._VF.lstm,
        "GRU": torch._VF.gru,
        "RNN_TANH": torch._VF.rnn_tanh,
        "RNN_RELU": torch._VF.rnn_relu,
    }[equivalent]
    # layers=1, dropout=0, train: without dropout, whether gradients may be wanted
    train = torch.is_grad_enabled() or request.captured is not None
    if request.lengths is None:
        outputs, *final = kernel(request.inputs, hx, weights, has_bias, 1, 0.0, train, False, False)
    else:
        packed = pack_padded_sequence(request.inputs, request.lengths, enforce_sorted=False)
        order, back = packed.sorted_indices, packed.unsorted_indices
        hx = tuple(s.index_select(1, order) for s in state)
        data, *final = kernel(
            packed.data,
            packed.batch_sizes,
            hx if equivalent == "LSTM" else hx[0],
            weights,
            has_bias,
            1,
            0.0,
            train,
            False,
        )
        outputs, _ = pad_packed_sequence(
            packed._replace(data=data), total_length=request.inputs.shape[0]
        )
        final = [s.index_select(1, back) for s in final]
    ends: State = type(request.state)(*(s.squeeze(0) for s in final))
    last: Tensor = ends.h if request.outputs == "last" else outputs
    return Result(last, ends, None)


def _is_half_lstm(request: Request) -> bool:
    """Return True if torch would call oneDNN's LSTM on the CPU in a dtype that it does not have.

    oneDNN has no LSTM in float16, and in bfloat16 only on CPUs with the instructions for it.
    """
    cell, inputs = request.cell, request.inputs
    return (
        cell.torch_equivalent == "LSTM"
        and cell.output_size == cell.hidden_size
        and request.lengths is None
        and (inputs.device.type, inputs.dtype) == ("cpu", torch.float32)
        and autocasts(request.inputs)
        and (
            torch.get_autocast_dtype("cpu") == torch.float16
            or not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
    )
