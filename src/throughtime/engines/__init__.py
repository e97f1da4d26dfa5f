"""Engines: how a cell is run over time."""

from throughtime.engines.cpp import (
    CompiledStep,
    NativeEngine,
    StepWithGradient,
    compiled_step,
    generate_compiled,
    run_step,
    step_with_gradient,
)
from throughtime.engines.eager import EagerEngine, Observer, unroll
from throughtime.engines.engine import (
    Engine,
    EngineOptions,
    Outputs,
    Place,
    Refusal,
    Request,
    Result,
    Runner,
    engine_options,
)
from throughtime.engines.scan import ScanEngine, linear_scan
from throughtime.engines.select import (
    ENGINES,
    Choice,
    being_recorded,
    check_engine,
    choose,
    recording,
    run,
)
from throughtime.engines.vendor import VendorEngine

__all__ = [
    "ENGINES",
    "Choice",
    "CompiledStep",
    "EagerEngine",
    "Engine",
    "EngineOptions",
    "NativeEngine",
    "Observer",
    "Outputs",
    "Place",
    "Refusal",
    "Request",
    "Result",
    "Runner",
    "ScanEngine",
    "StepWithGradient",
    "VendorEngine",
    "being_recorded",
    "check_engine",
    "choose",
    "compiled_step",
    "engine_options",
    "generate_compiled",
    "linear_scan",
    "recording",
    "run",
    "run_step",
    "step_with_gradient",
    "unroll",
]
