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
from throughtime.engines.cpp.steps.printer import Printed, print_steps
from throughtime.engines.trace.steps.schedule import Place, Schedule
from throughtime.engines.trace.steps.whole import WholeStep


def _structure(name: str, numbers: Sequence[str], pointers: Sequence[str]) -> Any:
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
    ("width", "carry", "shift", "read"),
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
        *("saved", "temporary", "slot", "carry", "output", "sums", "presents"),
    ),
    (
        *(
            "parts",
            "numbers",
            "constants",
            "products",
            "matrix_gradients",
            "matrices",
            "input",
            "field",
            "lengths",
        ),
        *("resets", "parameter_values", "outputs", "saved_values", "d_outputs", "d_input"),
        *("d_matrices", "d_parameters", "present", "workspace"),
    ),
)


@final
class Pass:
    """A pass of a plan: its parts, their numbers, and its products.

    Arguments:
        plan: The plan.
        schedule: The order of the pass.
        printed: The text of its parts.
        names: The names of a row's pointers, in order.
        library: The library of the text.
        name: The name of the pass.
        dtype: The dtype of real numbers.
    """

    def __init__(
        self,
        plan: WholeStep,
        schedule: Schedule,
        printed: Printed,
        names: Sequence[str],
        library: ctypes.CDLL,
        name: str,
        dtype: torch.dtype,
    ):
        pointers = {n: i for i, n in enumerate(names)}
        self.read = printed.places
        self.phases, self.temporary = schedule.phases, schedule.temporary.size
        found = [getattr(library, f"{name}_{phase}", None) for phase in range(self.phases)]
        addresses = [None if f is None else ctypes.cast(f, ctypes.c_void_p).value for f in found]
        self.parts = (ctypes.c_void_p * self.phases)(*addresses)
        numbers = printed.numbers
        self.numbers = (ctypes.c_int64 * (1 + len(numbers)))(*numbers)
        self.constants = torch.tensor([*printed.constants, 0.0], dtype=dtype, device="cpu")
        products = [
            Multiplication(
                phase,
                pointers[step.source.pointer],
                step.source.offset,
                plan.graph.products[step.number].depth,
                pointers[step.target.pointer],
                step.target.offset,
                plan.graph.products[step.number].width,
                plan.matrices.index(plan.graph.products[step.number].weight),
                plan.graph.products[step.number].transposed,
            )
            for phase, steps in enumerate(schedule.steps)
            for step in steps
        ]
        self.multiplications = len(products)
        self.products = (Multiplication * (1 + len(products)))(*products)

    def fill(self, job: Any) -> None:
        """Fill in the fields of a call."""
        job.parts, job.products = ctypes.addressof(self.parts), ctypes.addressof(self.products)
        job.numbers, job.constants = ctypes.addressof(self.numbers), self.constants.data_ptr()
        job.phases, job.multiplications = self.phases, self.multiplications
        job.temporary = self.temporary


@final
@dataclasses.dataclass(frozen=True, eq=False)
class StepKernel:
    """A whole step in machine code for one dtype.

    Attributes:
        plan: The plan that was compiled.
        dtype: The dtype of its values.
        loop: The library that runs it over time.
        forward, backward: The passes.
        text: The C++ of the passes, which cells of other sizes share.
    """

    plan: WholeStep
    dtype: torch.dtype
    loop: ctypes.CDLL
    forward: Pass
    backward: Pass
    text: str

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

    @functools.cached_property
    def fields(self) -> list[dict[str, int]]:
        """The numbers of each field."""
        plan = self.plan
        read = {place.pointer for place in self._read_places()}
        return [
            {
                "width": width,
                "carry": carry,
                "shift": -1 if shift is None else shift,
                "read": int(f"before{i}" in read),
            }
            for i, (width, carry, shift) in enumerate(
                zip(plan.widths, plan.carries, plan.shifts, strict=True)
            )
        ]

    def _read_places(self) -> list[Place]:
        """Return the places of a row that the backward pass reads."""
        plan = self.plan
        gradients = [g.source for g in plan.matrix_gradients]
        return [*self.backward.read, *gradients, *plan.backward.sources.values()]

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
    orders = {
        "forward": (plan.forward, plan.forward_pointers),
        "backward": (plan.backward, plan.backward_pointers),
    }
    printed = {name: Printed(name, *order) for name, order in orders.items()}
    text = print_steps(list(printed.values()))
    library = load_library(text, definitions(dtype, compiler), compiler)
    forward, backward = (
        Pass(plan, schedule, printed[name], names, library, name, dtype)
        for name, (schedule, names) in orders.items()
    )
    return StepKernel(plan, dtype, loop, forward, backward, text)
