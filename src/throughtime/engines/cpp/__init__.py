"""The native engine: generated C++ for gated cells."""

from throughtime.engines.cpp.engine import NativeEngine
from throughtime.engines.cpp.generation import generate_compiled
from throughtime.engines.cpp.step_gradient import (
    StepWithGradient,
    run_step,
    step_with_gradient,
)
from throughtime.engines.cpp.stepping import CompiledStep, compiled_step

__all__ = [
    "CompiledStep",
    "NativeEngine",
    "StepWithGradient",
    "compiled_step",
    "generate_compiled",
    "run_step",
    "step_with_gradient",
]
