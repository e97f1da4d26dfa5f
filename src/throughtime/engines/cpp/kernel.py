"""A cell compiled: its plan, the addresses of its functions, and the loop over time to run them."""

import ctypes
import dataclasses
import functools
import hashlib
import importlib.resources
import os
import threading
from collections.abc import Sequence
from typing import final

import torch

from throughtime.core.errors import ThroughtimeError
from throughtime.engines.cpp.building import CompilationError
from throughtime.engines.cpp.compiler import Compiler
from throughtime.engines.cpp.job import Job, check_structure
from throughtime.engines.cpp.library import load_library
from throughtime.engines.cpp.printer import print_cells
from throughtime.engines.trace.step_plan import StepPlan

_REAL = {torch.float32: "float", torch.float64: "double"}
_lock = threading.Lock()
# A compiler that failed would fail again, and take its time over it.
_kernels: dict[tuple[StepPlan, torch.dtype], "Kernel | CompilationError"] = {}
_by_name: dict[str, "Kernel"] = {}


def _renew_lock() -> None:
    """In a forked child, which has no thread that would open its parent's lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """A cell's plan in machine code for one dtype.

    Attributes:
        name: by which operators know it, within this process.
        plan: what was compiled.
        dtype: of its values.
        loop: the library that runs it over time.
        cell: the library of its own functions.
        index: its number in that library.
    """

    name: str
    plan: StepPlan
    dtype: torch.dtype
    loop: ctypes.CDLL
    cell: ctypes.CDLL
    index: int

    @functools.cached_property
    def start(self) -> Job:
        """What is the same in all calls."""
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
        """How many values a step saves for the backward pass."""
        return len(self.plan.forward.outputs) - 1 - len(self.plan.memories)

    def _address(self, function: str) -> int:
        symbol = getattr(self.cell, f"{function}_{self.index}")
        found = ctypes.cast(symbol, ctypes.c_void_p).value
        assert found is not None, "a function that was loaded has an address"
        return found

    def reserve_threads(self, count: int) -> bool:
        """Whether so many threads can run at once, made if need be."""
        return bool(self.loop.reserve_threads(ctypes.c_int64(count)))

    def workspace(self, direction: str, job: Job) -> int:
        """Bytes that a pass, "forward" or "backward", works in; 0 if the job does not fit."""
        function = getattr(self.loop, f"{direction}_workspace")
        function.restype = ctypes.c_int64
        return max(0, function(ctypes.byref(job.structure)))

    def run(self, direction: str, job: Job) -> None:
        """Run a pass, "forward" or "backward"; other Python threads go on meanwhile.

        Raises:
            ShapeError: an array has another size than the job's numbers say; nothing has run.
        """
        function = getattr(self.loop, f"run_{direction}")
        function.restype = ctypes.c_char_p
        misfit = function(ctypes.byref(job.structure))
        if misfit is not None:
            raise job.misfit(misfit.decode())


def kernel_for(plan: StepPlan, dtype: torch.dtype, compiler: Compiler) -> Kernel:
    """The kernel of a plan, compiled if this machine has not done so before.

    Arguments:
        plan: of the cell.
        dtype: float32 or float64.
        compiler: to build with.

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
    """Compile the kernels of several plans as one file.

    Arguments:
        plans: of the cells.
        dtype: float32 or float64.
        compiler: to build with.
    """
    made: CompilationError | tuple[ctypes.CDLL, ctypes.CDLL]
    try:
        loop = load_library(_loop_source(), _definitions(dtype, compiler), compiler)
        check_structure(loop)
        made = loop, load_library(print_cells(plans), _definitions(dtype, compiler), compiler)
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
    """The kernel that an operator was given by name.

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


def _definitions(dtype: torch.dtype, compiler: Compiler) -> dict[str, str | int]:
    return {"REAL": _REAL[dtype], "VECTOR_BYTES": compiler.vector_bytes}


def _loop_source() -> str:
    folder = importlib.resources.files("throughtime.engines.cpp") / "source"
    return (folder / "sequence.cpp").read_text(encoding="utf-8")
