"""A linear recurrence whose weights change with each step, compiled: forward and backward."""

import ctypes
import functools
import importlib.resources
from typing import Any, final

import torch
from torch import Tensor

from throughtime.core.buffers import lend
from throughtime.core.capture import capturing, transformed
from throughtime.core.errors import ThroughtimeError
from throughtime.engines.cpp.building import CompilationError
from throughtime.engines.cpp.cache import CacheFolderError
from throughtime.engines.cpp.compiler import search
from throughtime.engines.cpp.kernel import definitions
from throughtime.engines.cpp.library import load_library

_ARRAYS = (
    *("x", "initial", "weight", "readout", "z", "states"),
    *("d_z", "d_x", "d_initial", "d_weight", "d_readout", "workspace"),
)


class _Structure(ctypes.Structure):
    _fields_ = [  # ctypes asks for a list
        *((name, ctypes.c_int64) for name in ("batch", "steps", "units", "threads")),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
    ]


def refusal(*tensors: Tensor) -> str | None:
    """Return the reason why tensors cannot be run by the compiled code, or None."""
    if reason := capturing() or transformed():
        return reason
    for tensor in tensors:
        if not tensor.is_cpu:
            return f"it runs on the CPU, and this is on {tensor.device}"
        if tensor.dtype not in (torch.float32, torch.float64) or tensor.dtype != tensors[0].dtype:
            return f"it computes in float32 or float64, and this is in {tensor.dtype}"
    compiler = search().found
    if isinstance(compiler, str):
        return compiler
    try:
        _library(tensors[0].dtype)
    except (CompilationError, CacheFolderError) as error:
        return str(error)
    return None


@functools.cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    """Return the library for a dtype, compiled if this machine has not done so before."""
    compiler = search().found
    assert not isinstance(compiler, str), "refused before"
    folder = importlib.resources.files("throughtime.engines.cpp") / "source"
    source = (folder / "autoregression.cpp").read_text(encoding="utf-8")
    library = load_library(source, definitions(dtype, compiler), compiler)
    for name in ("size", "width", "segments", "forward_workspace", "backward_workspace"):
        getattr(library, f"autoregression_{name}").restype = ctypes.c_int64
    for name in ("forward", "backward"):
        getattr(library, f"autoregression_{name}").restype = None
    if library.autoregression_size() != ctypes.sizeof(_Structure):
        raise ThroughtimeError(
            "the structure of an autoregression",
            got=f"{library.autoregression_size()} bytes in the compiled code",
            expected=f"{ctypes.sizeof(_Structure)}",
            fix="source/autoregression.cpp and autoregression.py differ: bring them in line.",
        )
    return library


def _run(direction: str, **arrays: Tensor | None) -> None:
    x, initial = arrays["x"], arrays["initial"]
    assert x is not None
    assert initial is not None
    library = _library(x.dtype)
    structure = _Structure(*x.shape, initial.shape[1], torch.get_num_threads())
    for name, tensor in arrays.items():
        setattr(structure, name, None if tensor is None else tensor.data_ptr())
    at = ctypes.byref(structure)
    size = getattr(library, f"autoregression_{direction}_workspace")(at)
    workspace = lend((size,), torch.uint8)
    structure.workspace = workspace.data_ptr()
    getattr(library, f"autoregression_{direction}")(at)


@final
class Autoregression(torch.autograd.Function):
    """The sums z, with their gradients. The arguments fit together; `refusal` is None for them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, initial: Tensor, weight: Tensor, readout: Tensor) -> Tensor:
        """Return z (batch, steps)."""
        x, initial, weight, readout = (t.contiguous() for t in (x, initial, weight, readout))
        (batch, steps), units, states = x.shape, initial.shape[1], None
        if any(ctx.needs_input_grad):
            library = _library(x.dtype)
            width = library.autoregression_width(ctypes.c_int64(units))
            segments = library.autoregression_segments(ctypes.c_int64(steps))
            states = lend((segments, batch, width), x.dtype)
        z = torch.empty_like(x)
        _run("forward", x=x, initial=initial, weight=weight, readout=readout, z=z, states=states)
        ctx.save_for_backward(x, initial, weight, readout, states)
        return z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments."""
        (d_z,) = gradients
        *operands, states = ctx.saved_tensors
        wanted = [
            torch.empty_like(t) if needed else None
            for t, needed in zip(operands, ctx.needs_input_grad, strict=True)
        ]
        named = dict(zip(("x", "initial", "weight", "readout"), operands, strict=True))
        results = {f"d_{name}": g for name, g in zip(named, wanted, strict=True)}
        _run("backward", **named, **results, states=states, d_z=d_z.contiguous())
        return tuple(wanted)
