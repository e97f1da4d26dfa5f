"""Seconds that the native engine's compiler takes, in an empty cache."""

import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.registry import Row, benchmark

_RUN = """
import torch
import throughtime as tt
from throughtime.engines.cpp.library import builds
tt.{layer}(3, 5, engine="native")(torch.ones(2, 1, 3))
print(*(build.seconds for build in builds()))
"""


@benchmark("compiling")
def compiling(rounds: int) -> list[Row]:
    """The loop over time, once a machine, and one cell's functions."""
    rows = []
    for layer in ("LSTM", "GRU", "RNN"):
        found: list[list[float]] = []
        for _ in range(max(2, rounds)):
            with tempfile.TemporaryDirectory() as cache:
                said = subprocess.run(
                    [sys.executable, "-c", _RUN.format(layer=layer)],
                    env={**os.environ, "THROUGHTIME_CACHE": cache},
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            found.append([float(seconds) for seconds in said.split()])
        for what, times in zip(
            ("the loop over time", layer), zip(*found, strict=True), strict=True
        ):
            low, middle, high = statistics.quantiles(times, n=4)
            rows.append(Row(f"compiling for {layer}", what, "", middle, low, high, "s"))
    return rows
