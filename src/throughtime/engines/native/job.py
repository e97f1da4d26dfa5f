"""One call of the generated code: the structure that it reads, as in source/job.h."""

import ctypes
from collections.abc import Sequence
from typing import Any, final

from torch import Tensor

from throughtime.core.errors import ThroughtimeError

_NUMBERS = (
    *("time", "batch", "input", "hidden", "threads"),
    *("accumulators", "x_accumulators", "h_accumulators", "gates"),
    *("lags", "memories", "pasts", "streams", "saved", "parameters", "parameter_gradients"),
    *("depth", "segment", "split_units"),
)
_STRIDES = ("input_strides", "output_gradient_strides")
_POINTERS = (
    *("gate_of", "lag", "past", "stream_strides", "forward", "backward"),
    *("lengths", "ages", "inputs", "weight_ih", "bias_ih", "bias_hh", "weight_hh", "initial"),
    *("stream_values", "parameter_values"),
    *("outputs", "histories", "saved_values", "snapshots", "final"),
    *("output_gradient", "history_gradients", "final_gradients"),
    *("d_inputs", "d_weight_ih", "d_bias_ih", "d_bias_hh", "d_weight_hh", "d_initial"),
    *("d_parameters", "workspace"),
)


class _Structure(ctypes.Structure):
    _fields_ = [  # ctypes asks for a list
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_int64 * 2) for name in _STRIDES),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


@final
class Job:
    """The structure, filled from Python values; it keeps what it points to alive.

    Arguments:
        like: the job whose fields it starts with, or None.
    """

    def __init__(self, like: Any = None):
        structure = _Structure() if like is None else _Structure.from_buffer_copy(like.structure)
        self.structure = structure
        self._alive: list[Any] = [like]

    def numbers(self, **fields: int | Sequence[int]) -> None:
        """Fill in whole numbers, and pairs of strides, by name."""
        for name, value in fields.items():
            setattr(self.structure, name, value)

    def tensors(self, **fields: Tensor | None) -> None:
        """Fill in pointers to the values of tensors."""
        for name, value in fields.items():
            setattr(self.structure, name, None if value is None else value.data_ptr())
        self._alive.append(fields)

    def lists(self, **fields: Sequence[Tensor | int | None]) -> None:
        """Fill in pointers to lists: of whole numbers, or of pointers to the values of tensors."""
        for name, values in fields.items():
            numbers = [
                v.data_ptr() if isinstance(v, Tensor) else 0 if v is None else v for v in values
            ]
            array = (ctypes.c_int64 * (len(numbers) + 1))(
                *numbers
            )  # never empty: it has an address
            setattr(self.structure, name, ctypes.addressof(array))
            self._alive.append((array, values))


def check_structure(library: ctypes.CDLL) -> None:
    """Raises ThroughtimeError unless the library was compiled with the same structure."""
    library.job_size.restype = ctypes.c_int64
    size = library.job_size()
    if size != ctypes.sizeof(_Structure):
        raise ThroughtimeError(
            "the structure of a call",
            got=f"{size} bytes in the compiled engine",
            expected=f"{ctypes.sizeof(_Structure)}",
            fix="source/job.h and job.py differ: bring them in line.",
        )
