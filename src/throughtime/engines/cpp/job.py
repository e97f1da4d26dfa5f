"""One call of the generated code: the structure that it reads, as in source/job.h."""

import ctypes
from collections.abc import Sequence
from typing import Any, final

from torch import Tensor

from throughtime.core.errors import ShapeError, ThroughtimeError

_NUMBERS = (
    *("time", "batch", "input", "hidden", "threads"),
    *("accumulators", "x_accumulators", "h_accumulators", "gates"),
    *("lags", "memories", "pasts", "streams", "saved", "parameters", "parameter_gradients"),
    *("depth", "segment", "split_units"),
)
_STRIDES = ("input_strides", "output_gradient_strides")
_FUNCTIONS = ("forward", "inference", "backward")
_ARRAYS = (
    *("gate_of", "lag", "past", "reach", "stream_strides"),
    *("lengths", "ages", "inputs", "weight_ih", "bias_ih", "bias_hh", "weight_hh", "initial"),
    *("stream_values", "parameter_values"),
    *("outputs", "histories", "saved_values", "snapshots", "final"),
    *("output_gradient", "history_gradients", "final_gradients"),
    *("d_inputs", "d_weight_ih", "d_bias_ih", "d_bias_hh", "d_weight_hh", "d_initial"),
    *("d_parameters", "workspace"),
)


_NO_NUMBERS = (ctypes.c_int64 * 1)()


class _Structure(ctypes.Structure):
    _fields_ = [  # ctypes asks for a list
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_int64 * 2) for name in _STRIDES),
        *((name, ctypes.c_void_p) for name in _FUNCTIONS),
        *(
            field
            for name in _ARRAYS
            for field in ((name, ctypes.c_void_p), (f"{name}_size", ctypes.c_int64))
        ),
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
        """Fill in pointers to the values of tensors, and how many bytes they are."""
        structure = self.structure
        for name, value in fields.items():
            setattr(structure, name, None if value is None else value.data_ptr())
            setattr(structure, f"{name}_size", 0 if value is None else _extent(value))
        self._alive.append(fields)

    def whole_numbers(self, **fields: Sequence[int]) -> None:
        """Fill in pointers to lists of whole numbers, and their lengths."""
        for name, values in fields.items():
            self._list(name, values)

    def lists(self, **fields: Sequence[Tensor | None]) -> None:
        """Fill in pointers to lists of tensors: of each, its values and how many bytes they are."""
        for name, values in fields.items():
            pairs: list[int] = []
            for value in values:
                pairs += (0, 0) if value is None else (value.data_ptr(), _extent(value))
            self._list(name, pairs)
            self._alive.append(values)

    def misfit(self, name: str) -> ShapeError:
        """The error that says what the compiled code found not to fit.

        Arguments:
            name: of a field; or "sizes", "functions".
        """
        sizes = ("time", "batch", "input", "hidden", "gates", "segment")
        return ShapeError(
            f"{name} of a compiled call",
            got=f"{getattr(self.structure, f'{name}_size', 'what cannot be')} bytes",
            expected="what "
            + ", ".join(f"{size} {getattr(self.structure, size)}" for size in sizes)
            + " need, at addresses that are multiples of a value",
            fix="Give each operand the shape that its cell has for it.",
        )

    def _list(self, name: str, numbers: Sequence[int]) -> None:
        # never empty: it has an address
        array = (ctypes.c_int64 * (len(numbers) + 1))(*numbers) if numbers else _NO_NUMBERS
        setattr(self.structure, name, ctypes.addressof(array))
        setattr(self.structure, f"{name}_size", 8 * len(numbers))
        self._alive.append(array)


def _extent(tensor: Tensor) -> int:
    """How many bytes lie from a tensor's first value to its last, or to the end of its storage."""
    there = int(tensor.untyped_storage().nbytes() - tensor.storage_offset() * tensor.itemsize)
    if tensor.is_contiguous() or not tensor.numel():
        return min(int(tensor.nbytes), there)
    places = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in places)
    return min(int(tensor.itemsize * (1 + last)), there)


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
