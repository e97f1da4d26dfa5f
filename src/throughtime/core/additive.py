"""Seeing that a pointwise function uses the gates of input and past only in their sums.

Then one accumulator serves both: the linear map of the past adds to the input's projection in one
kernel, and the sums cost nothing. It is seen by running the function once on gates that can do
nothing but be added to their partners, so it is exact: whatever else a function does with a gate,
or with part of one, stops it.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from throughtime.core.errors import ThroughtimeError


@final
class Gate:
    """One gate of the input or of the past, of which only the sum with its partner is known.

    Arguments:
        total: x_k + u_k.
        of_past: whether it stands for u_k rather than x_k.
    """

    __slots__ = ("of_past", "total")

    def __init__(self, total: Tensor, of_past: bool):
        self.total, self.of_past = total, of_past

    def __add__(self, other: object) -> Tensor:
        if (
            isinstance(other, Gate)
            and other.total is self.total
            and other.of_past is not self.of_past
        ):
            return self.total
        raise NotAdditiveError

    @classmethod
    def __torch_function__(cls, *arguments: Any, **options: Any) -> Any:
        raise NotAdditiveError


class NotAdditiveError(ThroughtimeError):
    """A pointwise function does with a gate what cannot be done with a sum alone."""

    def __init__(self) -> None:
        super().__init__(
            "pointwise did with a gate what it did not do when it was first run",
            expected="the same operations in every step",
            fix="It must not branch on values; use torch.where.",
        )


def gates_of(totals: Sequence[Tensor]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The gates of the input and of the past that stand for these sums.

    Arguments:
        totals: x_k + u_k for each gate.
    """
    return tuple(Gate(t, False) for t in totals), tuple(Gate(t, True) for t in totals)


def is_additive(pointwise: Callable[..., Any], totals: Sequence[Tensor], *rest: Any) -> bool:
    """Whether a pointwise function reads x and u only as x_k + u_k.

    Arguments:
        pointwise: takes x, u, and the rest.
        totals: one tensor a gate, of any values.
        rest: state, and streams if the function takes them.
    """
    # tensors of inference mode count no changes
    with torch.inference_mode(False), torch.no_grad():
        trial = [total.clone() for total in totals]
        versions = [total._version for total in trial]
        try:
            result = pointwise(*gates_of(trial), *rest)
        except (NotAdditiveError, TypeError, AttributeError):
            return False  # an operation, operator or method that gates do not have
    results = result if isinstance(result, tuple) else (result,)
    if any(isinstance(value, Gate) for value in results):
        return False
    return [total._version for total in trial] == versions  # changed in place: a sum of its own
