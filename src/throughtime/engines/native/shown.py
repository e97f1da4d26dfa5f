"""Tensors that a user sees and a backward pass reads: whether they were changed in between."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode


class Shown:
    """Results that may be changed in place before the backward pass, as torch.nn's may.

    A copy would cost time in every call. Here the values are kept as they are, and their changes
    are counted: if there were any, the caller computes the values again.

    Arguments:
        tensors: as they are returned.

    Attributes:
        saved: for each of them, an alias to be saved, whose changes autograd does not refuse. Where
            the call is traced, the tensor itself: there, nothing is changed in place.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        if _get_current_dispatch_mode() is not None:
            self.saved, self._counters = list(tensors), []
        else:
            self.saved = [tensor.data for tensor in tensors]
            self._counters = [_counter(tensor) for tensor in tensors]
        self._before = [counter._version for counter in self._counters]

    def changed(self) -> bool:
        """Whether any of them was changed since."""
        return [counter._version for counter in self._counters] != self._before


def _counter(tensor: Tensor) -> Tensor:
    """An empty tensor that counts the changes of another, whose memory it does not hold."""
    with torch.no_grad():
        counter = tensor.view_as(tensor)
        counter.set_()  # pyright: ignore[reportCallIssue]  # to no memory
    return counter
