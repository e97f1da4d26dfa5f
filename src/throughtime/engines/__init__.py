"""Engines: how a cell is run over time."""

from throughtime.engines.cpp import (
    CompiledStep,
    NativeEngine,
    compiled_step,
    generate_compiled,
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
from throughtime.engines.select import ENGINES, Choice, check_engine, choose, recording, run
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
    "VendorEngine",
    "check_engine",
    "choose",
    "compiled_step",
    "engine_options",
    "generate_compiled",
    "linear_scan",
    "recording",
    "run",
    "unroll",
]
