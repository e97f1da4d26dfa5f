"""The parts of a training step's time, beside the limits of the processor.

`python -m benchmarks profile [B,T,I,H ...]` writes results/profile-PROCESSOR.json; the tables of
docs/engines.md are made from all such files.
"""

import ctypes
import dataclasses
import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import throughtime as tt
from benchmarks.engines import SHAPES
from benchmarks.peak import fma_peak, read_rate
from throughtime.engines.cpp import kernel as kernels
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.cpp.engine import kernel_of
from throughtime.engines.cpp.library import load_library

PARTS = ("input product", "recurrent product", "elementwise", "weight gradient", "packing")
CELLS = ("LSTM", "GRU")
MEMORIES = {"L2": 2**18, "L3": 2**22, "memory": 2**28}
"""The bytes of an array that a thread reads again and again from each of them."""


def profile(shapes: list[tuple[int, int, int, int]], rounds: int) -> dict[str, Any]:
    """Return the limits of the processor, and the parts of training steps.

    Arguments:
        shapes: (batch, time, input, hidden) each.
        rounds: The training steps of which the median is taken.
    """
    threads = torch.get_num_threads()
    return {
        "processor": processor(),
        "threads": threads,
        "limits": {
            "multiply-add, GFLOP/s": fma_peak(threads) / 1e9,
            **{f"{n}, GB/s": read_rate(size, threads) / 1e9 for n, size in MEMORIES.items()},
        },
        "steps": [_step(cell, shape, rounds) for cell in CELLS for shape in shapes],
    }


def processor() -> dict[str, str]:
    """Return the processor's name with its family and model: names of virtual ones are short."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = {"model name": "name", "cpu family": "family", "model": "model"}
    found = {
        own: match[1].strip()
        for key, own in names.items()
        if (match := re.search(rf"^{key}\s*: (.*)$", text, re.M))
    }
    flags = re.search(r"^flags\s*: (.*)$", text, re.M)
    wide = bool(flags) and "avx512f" in flags[1].split()
    return {**found, "vectors": "AVX-512" if wide else "AVX2"}


def _step(cell: str, shape: tuple[int, int, int, int], rounds: int) -> dict[str, Any]:
    batch, steps, width, hidden = shape
    layer: Any = getattr(tt, cell)(width, hidden)
    x = torch.randn(steps, batch, width)
    weights = list(layer.parameters())

    def run() -> None:
        y, _ = layer(x)
        torch.autograd.grad(y, weights, torch.ones_like(y))

    kernel = kernel_of(layer.cells()[0], torch.float32)
    assert not isinstance(kernel, str), kernel
    run()
    whole = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        whole.append(time.perf_counter() - start)
    profiled = dataclasses.replace(kernel, loop=_loop_with_sections())
    read, parts = profiled.loop.read_sections, []
    kernels._by_name[kernel.name] = profiled
    try:
        for _ in range(rounds + 1):
            found = (ctypes.c_int64 * (len(PARTS) + 1))()
            start = time.perf_counter()
            run()
            took = time.perf_counter() - start
            read(found)
            parts.append([took, *(value / 1e9 for value in found)])
    finally:
        kernels._by_name[kernel.name] = kernel
    gates = {"LSTM": 4, "GRU": 3}[cell]
    products = 2 * batch * steps * gates * hidden * (3 * hidden + 2 * width)  # x has no gradient
    threads = torch.get_num_threads()
    medians = [statistics.median(column) for column in zip(*parts[1:], strict=True)]
    took, *busy = medians
    return {
        "cell": cell,
        "shape": list(shape),
        "milliseconds": 1e3 * statistics.median(whole),
        "GFLOP/s": products / statistics.median(whole) / 1e9,
        "shares": {
            **{part: own / took / threads for part, own in zip(PARTS, busy, strict=False)},
            "waiting": busy[-1] / took / threads,
            "rest": max(0.0, 1 - sum(busy) / took / threads),
        },
        "with clocks": took / statistics.median(whole),
    }


def _loop_with_sections() -> ctypes.CDLL:
    compiler = find_compiler()
    assert not isinstance(compiler, str), compiler
    defined = kernels.definitions(torch.float32, compiler) | {"SECTIONS": 1}
    return load_library(kernels._loop_source(), defined, compiler)


def main(shapes: list[str], rounds: int, folder: Path) -> None:
    """Measure, print, and write the file of this processor.

    Arguments:
        shapes: The shapes, "B,T,I,H" each; all of the engines' benchmark if empty.
        rounds: The counted rounds.
        folder: The folder of results.
    """
    chosen = [tuple(int(n) for n in shape.split(",")) for shape in shapes] or list(SHAPES)
    found = profile([(b, t, i, h) for b, t, i, h in chosen], rounds)
    own = found["processor"]
    name = re.sub(r"[^a-z0-9]+", "-", " ".join(own.values()).lower()).strip("-")
    path = folder / f"profile-{name}.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found["limits"], indent=2))
    for step in found["steps"]:
        shares = ", ".join(f"{part} {100 * own:.0f} %" for part, own in step["shares"].items())
        print(f"{step['cell']} {step['shape']}: {step['milliseconds']:.1f} ms; {shares}")
    print(f"written to {path}")
