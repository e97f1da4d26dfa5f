"""How far the native engine's float32 functions are from the truth: all 2^32 numbers.

`python -m benchmarks.function_accuracy`, of some minutes, prints the worst of each function and
writes `benchmarks/results/function_accuracy.json`. The truth is the C library's in float64.
"""

import ctypes
import dataclasses
import datetime
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.__main__ import SCHEMA_VERSION, hardware
from throughtime.engines.cpp.building import compile_source
from throughtime.engines.cpp.compiler import Compiler, find_compiler
from throughtime.training import current_environment

FUNCTIONS = ("exp", "tanh", "sigmoid", "log", "log1p", "expm1", "erf", "softplus", "sqrt")
SOURCE = Path(__file__).with_suffix(".cpp")
RESULTS = Path(__file__).parent / "results" / "function_accuracy.json"


class Worst(ctypes.Structure):
    """What the C++ side fills in."""

    _fields_ = (
        ("units", ctypes.c_double),
        ("at", ctypes.c_float),
        ("result", ctypes.c_float),
        ("truth", ctypes.c_double),
    )


@dataclasses.dataclass(frozen=True)
class Row:
    """The worst of a function.

    Attributes:
        function: its name.
        units: the greatest distance from the truth, in units in the last place of float32.
        at: the number where it occurs first.
        result: what came of it.
        truth: what should have.
        seconds: that the sweep took.
    """

    function: str
    units: float
    at: float
    result: float
    truth: float
    seconds: float


def main() -> None:
    """Sweep through all functions and write what was found."""
    compiler = find_compiler()
    if isinstance(compiler, str):
        sys.exit(compiler)
    with tempfile.TemporaryDirectory() as folder:
        library = build(compiler, Path(folder))
        print(f"{'function':10} {'ulp':>6} {'at':>16} {'result':>16} {'truth':>22}")
        rows = [sweep(library, name) for name in FUNCTIONS]
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "function_accuracy",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": hardware(),
        "environment": dataclasses.asdict(current_environment(torch.device("cpu"), 1)),
        "compiler": compiler.version,
        "flags": compiler.flags,
        "vector_bytes": compiler.vector_bytes,
        "load_average": os.getloadavg()[0],
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {RESULTS}")


def build(compiler: Compiler, folder: Path) -> ctypes.CDLL:
    """The sweep as a library, with vectors as wide as this machine's."""
    definitions = {"REAL": "float", "VECTOR_BYTES": compiler.vector_bytes}
    words = (compiler.path, *compiler.flags)
    built = compile_source(SOURCE.read_text(), definitions, words, folder, 60.0)
    return ctypes.CDLL(str(built)) if isinstance(built, Path) else sys.exit(built)


def sweep(library: ctypes.CDLL, name: str) -> Row:
    """One function, over all numbers."""
    worst, start = Worst(), time.perf_counter()
    function = getattr(library, f"{name}_of")
    function(ctypes.c_uint64(0), ctypes.c_uint64(2**32), ctypes.byref(worst))
    seconds = round(time.perf_counter() - start, 1)
    row = Row(name, round(worst.units, 4), worst.at, worst.result, worst.truth, seconds)
    print(f"{name:10} {row.units:6.3f} {row.at:16.9g} {row.result:16.9g} {row.truth:22.16g}")
    return row


if __name__ == "__main__":
    main()
