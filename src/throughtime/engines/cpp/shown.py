"""Tensors that a user sees and a backward pass reads: whether they were changed in between."""

from collections.abc import Sequence

from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode


class Shown:
    """Results that may be changed in place before the backward pass, as torch.nn's may.

    A copy would cost time in every call. Here the values are kept as they are, and their changes
    are counted: if there were any, the caller computes the values again.

    Arguments:
        tensors: The results, as they are returned.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        self._counters = [] if _traced() else [_counter(tensor) for tensor in tensors]
        self._before = [counter._version for counter in self._counters]

    def changed(self) -> bool:
        """True if any of them was changed since."""
        return [counter._version for counter in self._counters] != self._before


def aliases(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Aliases to be saved, whose changes autograd does not refuse.

    Arguments:
        tensors: The results, as they are returned. Where the call is traced nothing is changed in
            place, and these are the tensors themselves.
    """
    return list(tensors) if _traced() else [tensor.data for tensor in tensors]


def _traced() -> bool:
    return _get_current_dispatch_mode() is not None


def _counter(tensor: Tensor) -> Tensor:
    """An empty tensor with the version counter of another, whose memory and graph it does not hold.

    A view would hold both: of the graph that holds the counter, and so for ever.
    """
    counter = tensor.detach()
    counter.data = tensor.new_empty(0)
    return counter
