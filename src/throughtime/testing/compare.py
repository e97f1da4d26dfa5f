"""How the suites compare: element by element, never by sums, which hide permutations."""

from collections.abc import Sequence

import torch
from torch import Tensor

from throughtime.core.state import State, state_tensors


def floating(state: State) -> list[Tensor]:
    """The tensors of a state that can have a gradient."""
    return [t for t in state_tensors(state) if t.is_floating_point()]


def gradients(results: Sequence[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of a fixed random weighting of all results; zeros where there is none.

    Arguments:
        results: what was computed.
        tensors: with respect to what.
    """
    generator = torch.Generator().manual_seed(7)
    total = torch.zeros((), dtype=torch.float64)
    for result in results:
        weights = torch.randn(result.shape, generator=generator, dtype=torch.float64)
        total = total + (result.double() * weights).sum()
    found = torch.autograd.grad(total, list(tensors), allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


def close(got: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Assert that tensors are equal, element by element, to a relative or absolute tolerance."""
    torch.testing.assert_close(list(got), list(expected), rtol=tolerance, atol=tolerance)
