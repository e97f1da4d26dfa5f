"""Whether what an operator is given has the shapes, dtype and device that its kernel needs."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from throughtime.core.errors import DeviceError, DtypeError, ShapeError
from throughtime.core.weights import recurrent_weight
from throughtime.engines.cpp.kernel import Kernel
from throughtime.engines.trace.step_plan import StepPlan

Shape = tuple[int, ...]


def check_operands(
    kernel: Kernel, operands: Sequence[Tensor], lengths: Tensor | None, ages: Tensor | None
) -> None:
    """Compare the operands of a run with what its kernel reads.

    Arguments:
        kernel: that shall run.
        operands: as `Operands.flat` gives them.
        lengths: (batch,) int64.
        ages: (time, batch) int64.

    Raises:
        ShapeError, DtypeError, DeviceError: the first operand that does not fit, by name.
    """
    plan = kernel.plan
    biases = len(operands) - _count(plan)
    names = _names(plan, biases)
    inputs, h = operands[0], operands[2 + len(plan.lags) + biases + len(plan.parameters)]
    if inputs.dim() != 3 or inputs.shape[0] < 1:
        raise _shape("input", inputs.shape, "(time, batch, input) of at least one step")
    if h.dim() != 2:
        raise _shape("state.h", h.shape, "(batch, hidden)")
    time, batch, width = inputs.shape
    expected = _shapes(plan, biases, time, batch, width, h.shape[1])
    found = [operand.shape for operand in operands]
    own = len(operands) - len(plan.streams)
    if found[:own] != expected:
        compare(names, found[:own], expected)
    for name, shape in zip(names[own:], found[own:], strict=True):
        if shape not in ((time, batch, h.shape[1]), (time, batch, 1)):
            raise _shape(name, shape, f"{(time, batch, h.shape[1])} or {(time, batch, 1)}")
    check_values(kernel.dtype, names, operands)
    for name, tensor, shape in (("lengths", lengths, (batch,)), ("ages", ages, (time, batch))):
        if tensor is not None:
            compare([name], [tensor.shape], [shape])
            check_values(torch.int64, [name], [tensor])


def compare(names: Sequence[str], found: Sequence[Shape], expected: Sequence[Shape]) -> None:
    """Raises ShapeError for the first shape that is not the expected one, and for their number.

    Arguments:
        names: of the tensors.
        found: their shapes.
        expected: the shapes that fit.
    """
    if len(found) != len(expected):
        raise ShapeError(
            f"{names[0]} and the following" if names else "tensors of a call",
            got=f"{len(found)} tensors",
            expected=f"{len(expected)}",
        )
    for name, shape, fit in zip(names, found, expected, strict=False):
        if shape != fit:
            raise _shape(name, shape, str(tuple(fit)))


def check_values(dtype: torch.dtype, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
    """Raises DtypeError or DeviceError unless all tensors are dense, on the CPU, of this dtype.

    Arguments:
        dtype: that of the kernel, or of whole numbers.
        names: of the tensors.
        tensors: of any shape.
    """
    if all(t.dtype is dtype and t.is_cpu and t.layout is torch.strided for t in tensors):
        return
    for name, tensor in zip(names, tensors, strict=False):
        if tensor.dtype is not dtype:
            raise DtypeError(
                name,
                got=f"dtype {tensor.dtype}",
                expected=f"{dtype}, that of the kernel",
                fix=f"Convert it: .to({dtype}).",
            )
        if not tensor.is_cpu:
            raise DeviceError(
                name, got=f"device {tensor.device}", expected="the CPU", fix="Move it: .cpu()."
            )
        if tensor.layout is not torch.strided:
            raise DtypeError(
                name,
                got=f"layout {tensor.layout}",
                expected="a dense tensor",
                fix="Convert it: .to_dense().",
            )


def _count(plan: StepPlan) -> int:
    """How many operands there are without biases."""
    states = len(plan.memories) + plan.depth
    return 2 + len(plan.lags) + len(plan.parameters) + states + len(plan.streams)


@lru_cache(256)
def _names(plan: StepPlan, biases: int) -> tuple[str, ...]:
    """The names of the operands, in order."""
    most = 1 + bool(plan.lags)
    if not 0 <= biases <= most:
        raise ShapeError(
            "operands of a kernel",
            got=f"{biases + _count(plan)} tensors",
            expected=f"{_count(plan)} and up to {most} biases",
        )
    return (
        "input",
        "weight_ih",
        *(f"recurrent_matrix({lag}) of {recurrent_weight(lag)}" for lag in plan.lags),
        *("bias_ih", "bias_hh")[:biases],
        *(f"row {row} of {name}" for name, row in plan.parameters),
        *(f"state.{name}" for name in ("h", *plan.memories)),
        *(f"state.past[{i}]" for i in range(plan.depth - 1)),
        *(f"stream {name}" for name in plan.streams),
    )


@lru_cache(1024)
def _shapes(
    plan: StepPlan, biases: int, time: int, batch: int, width: int, hidden: int
) -> list[Shape]:
    """The shapes of all operands but the streams."""
    rows = plan.gates * hidden
    return [
        (time, batch, width),
        (rows, width),
        *((rows, hidden) for _ in plan.lags),
        *((rows,) for _ in range(biases)),
        *((hidden,) for _ in plan.parameters),
        *((batch, hidden) for _ in range(len(plan.memories) + plan.depth)),
    ]


def _shape(name: str, found: Shape, expected: str) -> ShapeError:
    return ShapeError(
        name,
        got=f"shape {tuple(found)}",
        expected=expected,
        fix="Use the shape that the cell has for it, or make a cell of other sizes.",
    )
