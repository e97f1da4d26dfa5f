"""Gradient clipping by value and by norm, and how often it acts."""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor


def gradient_norm(gradients: Sequence[Tensor]) -> Float64[Tensor, ""]:
    """The Euclidean norm of all gradients as one vector, summed in float64.

    In float32 the squares of an exploding gradient overflow beyond 1e19, and those of a vanished
    one underflow below 1e-23. A norm that is not finite means that an element is not.

    Example:
        >>> gradient_norm([torch.tensor([3.0]), torch.tensor([[4.0]])]).item()
        5.0
    """
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients]
    return torch.linalg.vector_norm(torch.stack(norms))


@final
class Clipping:
    """Clipping of a model's gradient g, in place.

        by value:  g_i <- max(-v, min(v, g_i))
        by norm:   g   <- g c / ||g||   where ||g|| > c

    by value first if both are given; the norm is then that of what is left.

    Arguments:
        norm: c, above 0, or None.
        value: v, above 0, or None.

    Source:
        By norm: Pascanu, Mikolov and Bengio (2013), algorithm 1, over all parameters at once.
        By value: Mikolov (2012).

    Differs from torch.nn.utils.clip_grad_norm_, which scales by c / (||g|| + 1e-6).
    """

    def __init__(self, norm: float | None = None, value: float | None = None):
        self.norm = norm
        self.value = value

    def measure(self, gradients: Sequence[Tensor]) -> Float64[Tensor, "2"]:
        """The gradient's norm, and its largest element's size (0 where that is not bounded).

        Both stay on the device, for `clip` to take once they are read.
        """
        norm = gradient_norm(gradients)
        if self.value is None or not gradients:
            return torch.stack([norm, torch.zeros_like(norm)])
        largest = torch.stack(
            [gradient.abs().max() for gradient in gradients if gradient.numel()]
        ).max()
        return torch.stack([norm, largest.to(torch.float64)])

    def clip(self, gradients: Sequence[Tensor], norm: float, largest: float) -> bool:
        """Clip in place what was measured; whether that changed anything.

        Arguments:
            gradients: gradients that were measured, unchanged since.
            norm, largest: result of `measure`, finite.
        """
        clipped = False
        if self.value is not None and largest > self.value:
            for gradient in gradients:
                gradient.clamp_(-self.value, self.value)
            clipped = True
            if self.norm is not None:
                norm = gradient_norm(gradients).item()
        if self.norm is not None and norm > self.norm:
            for gradient in gradients:
                gradient.mul_(self.norm / norm)
            clipped = True
        return clipped
