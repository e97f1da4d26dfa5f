"""A run of a compiled step: its options, and its tensors by meaning."""

import dataclasses
from collections.abc import Sequence
from typing import Any, final

from torch import Tensor

from throughtime.engines.cpp.steps.kernel import StepKernel


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """A run of a compiled step, but for the tensors that may have gradients.

    Attributes:
        kernel: The compiled step.
        lengths: (batch,) int64, or None.
        resets: (time, batch) bool, or None.
        histories: True for each field whose values after every step are returned.
        outputs: If True, the outputs of every step are returned, where no field equals them.
        save: If True, a backward pass may follow.
    """

    kernel: StepKernel
    lengths: Tensor | None
    resets: Tensor | None
    histories: tuple[bool, ...]
    outputs: bool
    save: bool


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Tensors:
    """The tensors of a run by meaning.

    Attributes:
        inputs: (time, batch, width): the input, then the streams.
        initial: (batch, width) for each field.
        fresh: The state of a reset, likewise; empty where nothing is reset.
        parameters: The static tensors that are read as vectors.
        matrices: The static tensors that are matrices.
    """

    inputs: Sequence[Any]
    initial: Sequence[Any]
    fresh: Sequence[Any]
    parameters: Sequence[Any]
    matrices: Sequence[Any]


def split(call: Call, tensors: Sequence[Any]) -> Tensors:
    """Return a flat list of a run's tensors by meaning."""
    plan, rest = call.kernel.plan, list(tensors)
    counts = [len(plan.trace.inputs), len(plan.fields)]
    counts += [len(plan.fields) if call.resets is not None else 0]
    counts += [len(plan.parameters), len(plan.matrices)]
    parts: list[list[Any]] = []
    for count in counts:
        parts.append(rest[:count])
        rest = rest[count:]
    return Tensors(*parts)
