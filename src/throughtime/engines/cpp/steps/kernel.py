"""A whole step in machine code, and the structure of a call, as in source/steps.cpp."""

import ctypes
import dataclasses
import functools
import importlib.resources
from collections.abc import Sequence
from typing import Any, final

import torch

from throughtime.core.errors import ThroughtimeError
from throughtime.engines.cpp.compiler import Compiler
from throughtime.engines.cpp.kernel import definitions
from throughtime.engines.cpp.library import load_library
from throughtime.engines.cpp.steps.printer import print_steps
from throughtime.engines.trace.steps.schedule import Schedule
from throughtime.engines.trace.steps.whole import WholeStep


def _structure(name: str, numbers: Sequence[str], pointers: Sequence[str], last: str = "") -> Any:
    fields = [(n, ctypes.c_int64) for n in numbers] + [(p, ctypes.c_void_p) for p in pointers]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


Multiplication = _structure(
    "Multiplication",
    (
        *("phase", "source", "source_offset", "depth", "target", "target_offset", "width"),
        *("weight", "transposed"),
    ),
    (),
)
MatrixGradient = _structure(
    "MatrixGradient", ("source", "source_offset", "depth", "slot_offset", "width"), ()
)
Field = _structure(
    "Field",
    ("width", "carry"),
    (
        *("initial", "fresh", "history", "last", "d_history", "d_last"),
        *("d_initial", "d_fresh"),
    ),
)


class Matrix(ctypes.Structure):
    """A matrix where it lies."""

    _fields_ = [  # ctypes asks for a list
        ("at", ctypes.c_void_p),
        ("depth_stride", ctypes.c_int64),
        ("width_stride", ctypes.c_int64),
    ]


class Input(ctypes.Structure):
    """An input where it lies."""

    _fields_ = [  # ctypes asks for a list
        ("at", ctypes.c_void_p),
        ("width", ctypes.c_int64),
        ("time_stride", ctypes.c_int64),
        ("batch_stride", ctypes.c_int64),
    ]


Steps = _structure(
    "Steps",
    (
        *("time", "batch", "threads"),
        *("inputs", "fields", "phases", "multiplications", "gradients"),
        *("saved", "temporary", "slot", "carry", "output", "parameters"),
    ),
    (
        *("parts", "products", "matrix_gradients", "matrices", "input", "field", "lengths"),
        *("resets", "parameter_values", "outputs", "saved_values", "d_outputs", "d_input"),
        *("d_matrices", "d_parameters", "workspace"),
    ),
)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class StepKernel:
    """A whole step in machine code for one dtype.

    Attributes:
        plan: The plan that was compiled.
        dtype: The dtype of its values.
        loop: The library that runs it over time.
        step: The library of its own functions.
    """

    plan: WholeStep
    dtype: torch.dtype
    loop: ctypes.CDLL
    step: ctypes.CDLL

    @functools.cached_property
    def forward(self) -> Any:
        """The parts and products of the forward pass."""
        plan = self.plan
        return self._pass("forward", plan.forward, plan.forward_pointers)

    @functools.cached_property
    def backward(self) -> Any:
        """The parts and products of the backward pass."""
        plan = self.plan
        return self._pass("backward", plan.backward, plan.backward_pointers)

    @functools.cached_property
    def matrix_gradients(self) -> Any:
        """The gradients of the products' matrices."""
        pointers = {name: i for i, name in enumerate(self.plan.backward_pointers)}
        gradients = self.plan.matrix_gradients
        made = [
            MatrixGradient(pointers[g.source.pointer], g.source.offset, g.depth, g.slot, g.width)
            for g in gradients
        ]
        return (MatrixGradient * max(1, len(made)))(*made)

    def _pass(self, name: str, schedule: Schedule, names: Sequence[str]) -> Any:
        pointers, plan = {n: i for i, n in enumerate(names)}, self.plan
        parts = (ctypes.c_void_p * schedule.phases)(
            *(self._address(f"{name}_{phase}") for phase in range(schedule.phases))
        )
        made: list[Any] = []
        for phase, steps in enumerate(schedule.steps):
            for step in steps:
                product = plan.graph.products[step.number]
                made.append(
                    Multiplication(
                        phase,
                        pointers[step.source.pointer],
                        step.source.offset,
                        product.depth,
                        pointers[step.target.pointer],
                        step.target.offset,
                        product.width,
                        plan.matrices.index(product.weight),
                        product.transposed,
                    )
                )
        products = (Multiplication * max(1, len(made)))(*made)
        return parts, products, schedule.phases, len(made), schedule.temporary.size

    def _address(self, function: str) -> int | None:
        found = getattr(self.step, function, None)
        return None if found is None else ctypes.cast(found, ctypes.c_void_p).value

    @functools.cached_property
    def functions(self) -> dict[str, tuple[Any, Any]]:
        """The functions of each pass: the bytes that it works in, and the run."""
        found: dict[str, tuple[Any, Any]] = {}
        for name in ("forward", "backward"):
            measure = getattr(self.loop, f"steps_{name}_workspace")
            run = getattr(self.loop, f"steps_{name}")
            measure.restype, run.restype = ctypes.c_int64, None
            found[name] = measure, run
        return found


def compile_whole(plan: WholeStep, dtype: torch.dtype, compiler: Compiler) -> StepKernel:
    """Return a plan in machine code, compiled if this machine has not done so before.

    Raises:
        CompilationError: The compiler failed.
        CacheFolderError: The folder of compiled code cannot be used.
    """
    folder = importlib.resources.files("throughtime.engines.cpp") / "source"
    source = (folder / "steps.cpp").read_text(encoding="utf-8")
    loop = load_library(source, definitions(dtype, compiler), compiler)
    if loop.steps_size() != ctypes.sizeof(Steps):
        raise ThroughtimeError(
            "the structure of a call of steps",
            got=f"{loop.steps_size()} bytes in the compiled engine",
            expected=f"{ctypes.sizeof(Steps)}",
            fix="source/steps.cpp and steps/kernel.py differ: bring them in line.",
        )
    text = print_steps(
        {
            "forward": (plan.forward, plan.forward_pointers),
            "backward": (plan.backward, plan.backward_pointers),
        }
    )
    return StepKernel(plan, dtype, loop, load_library(text, definitions(dtype, compiler), compiler))
