"""A cell compiled: its plan, the addresses of its functions, and the loop over time to run them."""

import ctypes
import dataclasses
import functools
import hashlib
import importlib.resources
import os
import threading
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from throughtime.core.buffers import lend
from throughtime.core.errors import ShapeError, ThroughtimeError
from throughtime.engines.cpp.building import CompilationError
from throughtime.engines.cpp.compiler import Compiler
from throughtime.engines.cpp.library import load_library
from throughtime.engines.cpp.printer import print_cells
from throughtime.engines.trace.step_plan import StepPlan

_NUMBERS = (
    *("time", "batch", "input", "hidden", "threads"),
    *("accumulators", "x_accumulators", "h_accumulators", "gates"),
    *("lags", "memories", "pasts", "streams", "saved", "parameters", "parameter_gradients"),
    *("depth", "segment", "split_units"),
)
_STRIDES = ("input_strides", "output_gradient_strides")
_FUNCTIONS = ("forward", "inference", "backward")
_ARRAYS = (
    *("gate_of", "lag", "past", "reach", "stream_strides"),
    *("lengths", "ages", "inputs", "weight_ih", "bias_ih", "bias_hh", "weight_hh", "initial"),
    *("stream_values", "parameter_values"),
    *("outputs", "histories", "saved_values", "snapshots", "final"),
    *("output_gradient", "history_gradients", "final_gradients"),
    *("d_inputs", "d_weight_ih", "d_bias_ih", "d_bias_hh", "d_weight_hh", "d_initial"),
    *("d_parameters", "workspace"),
)


_NO_NUMBERS = (ctypes.c_int64 * 1)()


class _Structure(ctypes.Structure):
    _fields_ = [  # ctypes asks for a list
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_int64 * 2) for name in _STRIDES),
        *((name, ctypes.c_void_p) for name in _FUNCTIONS),
        *(
            field
            for name in _ARRAYS
            for field in ((name, ctypes.c_void_p), (f"{name}_size", ctypes.c_int64))
        ),
    ]


@final
class Job:
    """One call of the compiled code, as in source/job.h; it keeps alive all that it points to.

    Arguments:
        like: The job whose fields it starts with, or None.
    """

    def __init__(self, like: Any = None):
        structure = _Structure() if like is None else _Structure.from_buffer_copy(like.structure)
        self.structure = structure
        self._alive: list[Any] = [like]

    def numbers(self, **fields: int | Sequence[int]) -> None:
        """Fill in whole numbers, and pairs of strides, by name."""
        for name, value in fields.items():
            setattr(self.structure, name, value)

    def whole_numbers(self, **fields: Sequence[int]) -> None:
        """Fill in pointers to lists of whole numbers, and their lengths."""
        for name, values in fields.items():
            # never empty: it has an address
            array = (ctypes.c_int64 * (len(values) + 1))(*values) if values else _NO_NUMBERS
            setattr(self.structure, name, ctypes.addressof(array))
            setattr(self.structure, f"{name}_size", 8 * len(values))
            self._alive.append(array)

    def tensors(self, **fields: Tensor | Sequence[Tensor | None] | None) -> None:
        """Fill in the addresses of tensors, or of lists of them, each with its size in bytes.

        The size is that of the memory from a tensor's first value to its last, or to the end of its
        storage where that is shorter.
        """
        structure, alive = self.structure, self._alive
        alive.append(fields)
        for name, value in fields.items():
            listed = isinstance(value, list | tuple)
            tensors: Any = value if listed else (value,)
            spans: list[int] = []
            for tensor in tensors:
                if tensor is None:
                    spans += (0, 0)
                    continue
                width = tensor.itemsize
                size = width * tensor.numel()
                if size and not tensor.is_contiguous():
                    places = zip(tensor.shape, tensor.stride(), strict=True)
                    size = width * (1 + sum([(n - 1) * stride for n, stride in places]))
                there = tensor.untyped_storage().nbytes() - width * tensor.storage_offset()
                spans += (tensor.data_ptr(), min(size, int(there)))
            if listed:
                array = (ctypes.c_int64 * (len(spans) + 1))(*spans) if spans else _NO_NUMBERS
                alive.append(array)
                spans = [ctypes.addressof(array), 8 * len(spans)]
            setattr(structure, name, spans[0])
            setattr(structure, f"{name}_size", spans[1])

    def misfit(self, name: str) -> ShapeError:
        """Return the error for a field that does not fit by the compiled code.

        Arguments:
            name: The name of the field; or "sizes", "functions".
        """
        sizes = ("time", "batch", "input", "hidden", "gates", "segment")
        return ShapeError(
            f"{name} of a compiled call",
            got=f"{getattr(self.structure, f'{name}_size', 'what cannot be')} bytes",
            expected="what "
            + ", ".join(f"{size} {getattr(self.structure, size)}" for size in sizes)
            + " need, at addresses that are multiples of a value",
            fix="Give each operand the shape that its cell has for it.",
        )


_REAL = {torch.float32: "float", torch.float64: "double"}
_lock = threading.Lock()
# A compiler that failed would fail again, and take its time over it.
_kernels: dict[tuple[StepPlan, torch.dtype], "Kernel | CompilationError"] = {}
_by_name: dict[str, "Kernel"] = {}


def _renew_lock() -> None:
    """Make a new lock in a forked child, which has no thread that would open its parent's."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """A cell's plan in machine code for one dtype.

    Attributes:
        name: The name in operators, within this process.
        plan: The plan that was compiled.
        dtype: The dtype of its values.
        loop: The library that runs it over time.
        cell: The library of its own functions.
        index: Its number in that library.
    """

    name: str
    plan: StepPlan
    dtype: torch.dtype
    loop: ctypes.CDLL
    cell: ctypes.CDLL
    index: int

    @functools.cached_property
    def start(self) -> Job:
        """The job with the numbers that are the same in all calls."""
        plan, job = self.plan, Job()
        job.numbers(
            accumulators=len(plan.accumulators),
            x_accumulators=sum(a.of_input for a in plan.accumulators),
            h_accumulators=sum(a.of_past for a in plan.accumulators),
            gates=plan.gates,
            lags=len(plan.lags),
            memories=len(plan.memories),
            pasts=len(plan.pasts),
            streams=len(plan.streams),
            saved=self.saved,
            parameters=len(plan.parameters),
            parameter_gradients=len(plan.parameter_gradients),
            depth=plan.depth,
            **{name: self._address(name) for name in ("forward", "inference", "backward")},
        )
        job.whole_numbers(
            gate_of=[a.gate for a in plan.accumulators],
            lag=plan.lags,
            past=plan.pasts,
            reach=plan.reach,
        )
        return job

    @functools.cached_property
    def saved(self) -> int:
        """The number of values that a step saves for the backward pass."""
        return len(self.plan.forward.outputs) - 1 - len(self.plan.memories)

    def _address(self, function: str) -> int:
        symbol = getattr(self.cell, f"{function}_{self.index}")
        found = ctypes.cast(symbol, ctypes.c_void_p).value
        assert found is not None, "a function that was loaded has an address"
        return found

    @functools.cached_property
    def fields(self) -> int:
        """The number of tensors of a state: h, the memories, and older outputs."""
        return len(self.plan.memories) + self.plan.depth

    def reserve_threads(self, count: int) -> bool:
        """Return True if so many threads can run at once; make those that are missing."""
        return bool(self.loop.reserve_threads(ctypes.c_int64(count)))

    def run(self, direction: str, job: Job) -> None:
        """Run a pass, "forward" or "backward"; other Python threads go on meanwhile.

        Raises:
            ShapeError: An array has another size than the job's numbers require; nothing has run.
        """
        measure, run = self.functions[direction]
        structure, at = job.structure, ctypes.byref(job.structure)
        workspace = lend((max(0, measure(at)),), torch.uint8)
        structure.workspace, structure.workspace_size = workspace.data_ptr(), workspace.numel()
        misfit = run(at)
        if misfit is not None:
            raise job.misfit(misfit.decode())

    @functools.cached_property
    def functions(self) -> dict[str, tuple[Any, Any]]:
        """The functions of each pass: the bytes that it works in (-1 for a misfit), and the run."""
        found: dict[str, tuple[Any, Any]] = {}
        for direction in ("forward", "backward"):
            measure, run = (
                getattr(self.loop, name) for name in (f"{direction}_workspace", f"run_{direction}")
            )
            measure.restype, run.restype = ctypes.c_int64, ctypes.c_char_p
            found[direction] = measure, run
        return found


def kernel_for(plan: StepPlan, dtype: torch.dtype, compiler: Compiler) -> Kernel:
    """Return the kernel of a plan, compiled if this machine has not done so before.

    Raises:
        CompilationError: the compiler failed, or did so in this process before.
    """
    found = _kernels.get((plan, dtype))
    if found is None:
        compile_kernels([plan], dtype, compiler)
        found = _kernels[plan, dtype]
    if isinstance(found, CompilationError):
        raise found
    return found


def compile_kernels(plans: Sequence[StepPlan], dtype: torch.dtype, compiler: Compiler) -> None:
    """Compile the kernels of several plans as one file."""
    made: CompilationError | tuple[ctypes.CDLL, ctypes.CDLL]
    try:
        loop = load_library(_loop_source(), definitions(dtype, compiler), compiler)
        _check_structure(loop)
        made = loop, load_library(print_cells(plans), definitions(dtype, compiler), compiler)
    except CompilationError as error:
        made = error
    with _lock:
        for index, plan in enumerate(plans):
            if isinstance(made, CompilationError):
                _kernels[plan, dtype] = made
            elif (plan, dtype) not in _kernels:
                kernel = Kernel(_name(plan, dtype), plan, dtype, *made, index)
                _kernels[plan, dtype] = _by_name[kernel.name] = kernel


def kernel_named(name: str) -> Kernel:
    """Return the kernel of a name.

    Arguments:
        name: the same in every process for the same plan and dtype.

    Raises:
        ThroughtimeError: it was not compiled in this process.
    """
    if name not in _by_name:
        raise ThroughtimeError(
            f"kernel {name} of a saved program",
            got="a process that has not compiled it",
            fix="Run a layer with the same cell once before, or export with engine='eager'.",
        )
    return _by_name[name]


def _name(plan: StepPlan, dtype: torch.dtype) -> str:
    return hashlib.sha256(f"{plan!r} {dtype}".encode()).hexdigest()[:24]


def definitions(dtype: torch.dtype, compiler: Compiler) -> dict[str, str | int]:
    return {"REAL": _REAL[dtype], "VECTOR_BYTES": compiler.vector_bytes}


def _loop_source() -> str:
    folder = importlib.resources.files("throughtime.engines.cpp") / "source"
    return (folder / "sequence.cpp").read_text(encoding="utf-8")


def _check_structure(library: ctypes.CDLL) -> None:
    """Raise ThroughtimeError unless the library was compiled with the same structure."""
    library.job_size.restype = ctypes.c_int64
    size = library.job_size()
    if size != ctypes.sizeof(_Structure):
        raise ThroughtimeError(
            "the structure of a call",
            got=f"{size} bytes in the compiled engine",
            expected=f"{ctypes.sizeof(_Structure)}",
            fix="source/job.h and kernel.py differ: bring them in line.",
        )
