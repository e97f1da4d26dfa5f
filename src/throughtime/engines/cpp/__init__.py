"""The native engine: generated C++ for gated cells."""

from throughtime.engines.cpp.engine import NativeEngine
from throughtime.engines.cpp.generation import generate_compiled
from throughtime.engines.cpp.stepping import CompiledStep, compiled_step

__all__ = ["CompiledStep", "NativeEngine", "compiled_step", "generate_compiled"]
