"""Whether a cell's gradient is what torch derives from its program.

If not, second derivatives cannot be taken of the program. What is detached, or has a `backward` of
its own, the tracer notes; this finds where a function and its gradient were written down in ways
that do not agree.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from throughtime.engines.trace.program import Key, Program, evaluate

_POINTS = 256


def is_derived(
    forward: Program, backward: Program, names: Sequence[str], sources: Sequence[Key]
) -> bool:
    """Whether two programs agree at some points on what the gradient is.

    Arguments:
        forward: yields the results, then what is saved.
        backward: yields gradients.
        names: of the results: "h", then the memories.
        sources: what `backward` yields the gradients of.
    """
    given: dict[Key, Tensor] = {}

    def leaf(key: Key) -> Tensor:
        if key not in given:
            steps = torch.arange(_POINTS, dtype=torch.float64, device="cpu")
            points = 3 * torch.sin((1 + 0.37 * len(given)) * (steps + 1))
            given[key] = points.requires_grad_(key.kind not in ("stream", "cotangent"))
        return given[key]

    found = evaluate(forward, leaf)
    results, saved = dict(zip(names, found, strict=False)), found[len(names) :]
    cotangents = {name: leaf(Key("cotangent", name)) for name in names}
    loss = torch.stack([(results[n] * cotangents[n]).sum() for n in names]).sum()
    leaves = [leaf(key) for key in sources]
    expected: Sequence[Tensor | None] = [None] * len(leaves)
    if loss.requires_grad:
        expected = torch.autograd.grad(loss, leaves, allow_unused=True)
    actual = evaluate(backward, _late(leaf, results, saved))
    clear = torch.stack([results[name].isfinite().expand(_POINTS) for name in names]).all(0)
    return all(
        _agree(a.double(), torch.zeros_like(a).double() if e is None else e, clear)
        for a, e in zip(actual, expected, strict=True)
    )


def _late(
    leaf: Callable[[Key], Tensor], results: dict[str, Tensor], saved: Sequence[Tensor]
) -> Callable[[Key], Tensor]:
    """What a backward program reads."""

    def value(key: Key) -> Tensor:
        if key.kind == "result":
            return results[key.name].detach()
        return saved[key.index].detach() if key.kind == "saved" else leaf(key).detach()

    return value


def _agree(actual: Tensor, expected: Tensor, where: Tensor) -> bool:
    """At points where both are finite: what overflows depends on how it is computed.

    And not to all digits: torch rounds some constants to single precision.
    """
    actual, expected = actual.expand(_POINTS), expected.expand(_POINTS)
    finite = where & actual.isfinite() & expected.isfinite()
    actual, expected = actual[finite], expected[finite]
    size = float(expected.detach().abs().max()) if expected.numel() else 0.0
    return torch.allclose(actual, expected, rtol=1e-5, atol=1e-6 * max(size, 1.0))
