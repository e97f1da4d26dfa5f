"""Memory that is used again: large buffers go back to a pool when their last tensor dies.

Fresh memory costs as much as the arithmetic on it: the system zeroes each page on first touch. A
buffer is lent as a tensor that owns it, and returns when no tensor, view or graph holds it any
longer; so no two live tensors ever share one.
"""

import collections
import math
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SMALLEST = 2**16
"""Bytes from which a buffer is worth keeping."""
ALIGNMENT = 64
"""Of a buffer's address: a line of the cache, so that no vector lies across two."""
KEPT = 2**29
"""Bytes of unused buffers that are kept at most."""

# A deque's methods are atomic, and no lock could be taken here: buffers die whenever Python likes.
_free: collections.deque[np.ndarray] = collections.deque()


def lend(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor on the CPU, from the pool if it is large.

    Arguments:
        shape: shape of the tensor.
        dtype: type of its values.

    Returns:
        A contiguous tensor that shares memory with no other.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < SMALLEST:
        return torch.empty(shape, dtype=dtype, device="cpu")
    memory = _take(size)
    lent = memory[:size]
    weakref.finalize(lent, _give_back, memory).atexit = False
    return torch.from_numpy(lent).view(dtype).view(shape)


def clear() -> None:
    """Give all unused buffers back to the system."""
    _free.clear()


def unused() -> int:
    """Bytes that the pool keeps unused."""
    return sum(memory.nbytes for memory in list(_free))


def _take(size: int) -> np.ndarray:
    for _ in range(len(_free)):
        try:
            memory = _free.popleft()
        except IndexError:
            break
        if size <= memory.nbytes <= size + size // 4 + SMALLEST:
            return memory
        _free.append(memory)
    memory = np.empty(-(-size // SMALLEST) * SMALLEST + ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % ALIGNMENT :]


def _give_back(memory: np.ndarray) -> None:
    _free.append(memory)
    while unused() > KEPT:
        try:
            _free.popleft()
        except IndexError:
            return
