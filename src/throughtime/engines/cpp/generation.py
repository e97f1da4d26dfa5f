"""Generation in one compiled call: the levels of a layer, a readout, and the draw of a symbol."""

import ctypes
import functools
import importlib.resources
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.errors import ThroughtimeError
from throughtime.core.sampling import Sampling, refuse_logits
from throughtime.engines.cpp.compiler import search
from throughtime.engines.cpp.kernel import definitions
from throughtime.engines.cpp.library import load_library
from throughtime.engines.cpp.stepping import CompiledStep

_SIZES = ("levels", "batch", "alphabet", "width", "hidden", "steps", "top_k")
_ARRAYS = (
    *("embedding", "weight", "bias", "uniform", "first", "symbols"),
    *("inputs", "logits", "weights", "order"),
)


class _Structure(ctypes.Structure):
    _fields_ = [  # ctypes asks for a list
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_double) for name in ("temperature", "top_p", "min_p")),
        *((name, ctypes.c_void_p) for name in ("run", "jobs", *_ARRAYS)),
    ]


@functools.cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    """Return the library for a dtype, compiled if this machine has not done so before."""
    compiler = search().found
    assert not isinstance(compiler, str), "there are compiled steps"
    folder = importlib.resources.files("throughtime.engines.cpp") / "source"
    source = (folder / "generation.cpp").read_text(encoding="utf-8")
    library = load_library(source, definitions(dtype, compiler), compiler)
    library.generation_size.restype = ctypes.c_int64
    library.generation_run.restype = ctypes.c_char_p
    if library.generation_size() != ctypes.sizeof(_Structure):
        raise ThroughtimeError(
            "the structure of a generation",
            got=f"{library.generation_size()} bytes in the compiled code",
            expected=f"{ctypes.sizeof(_Structure)}",
            fix="source/generation.cpp and generation.py differ: bring them in line.",
        )
    return library


def generate_compiled(
    steps: Sequence[CompiledStep],
    before: Sequence[Sequence[Tensor]],
    after: Sequence[Sequence[Tensor]],
    first: Int[Tensor, " batch"],
    uniform: Float[Tensor, "steps batch"],
    sampling: Sampling,
    embedding: Float[Tensor, "alphabet input"] | None,
    weight: Float[Tensor, "alphabet hidden"],
    bias: Float[Tensor, " alphabet"] | None,
) -> tuple[Int[Tensor, "steps batch"], Sequence[Sequence[Tensor]]]:
    """Draw symbols, each of which the next step reads. All tensors are contiguous, on the CPU.

    Arguments:
        steps: The compiled step of each level, from the bottom.
        before: The state of each level before the first step, (batch, hidden) a tensor; written.
        after: Tensors of the same shapes; written.
        first: The symbols that the first step reads, int64, at least 0, below the alphabet.
        uniform: Random numbers in [0, 1), float64.
        sampling: The way of drawing a symbol.
        embedding: The input of each symbol; None for one-hot vectors.
        weight, bias: The readout of the top level.

    Returns:
        The symbols, and the state of each level after the last step: `before` or `after`.

    Raises:
        ShapeError: An array of a level has another size than its step requires.
        ThroughtimeError: A logit is NaN or infinite.
    """
    (time, batch), (alphabet, hidden) = uniform.shape, weight.shape
    dtype = steps[0].dtype
    library = _library(dtype)
    width = alphabet if embedding is None else embedding.shape[1]
    drawn = torch.empty(time, batch, dtype=torch.int64)
    arrays = {
        "embedding": embedding,
        "weight": weight,
        "bias": bias,
        "uniform": uniform,
        "first": first,
        "symbols": drawn,
        "inputs": torch.empty(batch, width, dtype=dtype),
        "logits": torch.empty(alphabet, dtype=dtype),
        "weights": torch.empty(alphabet, dtype=torch.float64),
        "order": torch.empty(alphabet, dtype=torch.int64),
    }
    for step, old, new in zip(steps, before, after, strict=True):
        step.point(old, new)
    jobs = (ctypes.c_void_p * len(steps))(*(ctypes.addressof(s.job.structure) for s in steps))
    top_k = alphabet if sampling.top_k is None else sampling.top_k
    structure = _Structure(len(steps), batch, alphabet, width, hidden, time, top_k)
    structure.temperature, structure.top_p = sampling.temperature, sampling.top_p
    structure.min_p = sampling.min_p
    structure.run = ctypes.cast(steps[0].kernel.functions["forward"][1], ctypes.c_void_p).value
    structure.jobs = ctypes.addressof(jobs)
    for name, tensor in arrays.items():
        setattr(structure, name, None if tensor is None else tensor.data_ptr())
    misfit = library.generation_run(ctypes.byref(structure))
    if misfit == b"logits":
        refuse_logits()
    if misfit is not None:
        error = steps[0].job.misfit(misfit.decode())
        raise error
    return drawn, after if time % 2 else before
