"""How much a training step slows while another process spins on one of the cores."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.engines import SHAPES, Step, case_of, data_of, pair_of
from benchmarks.registry import Row, benchmark

SPIN = "import os\nos.sched_setaffinity(0, {0})\nwhile True: pass"


@benchmark("neighbour")
def neighbour(rounds: int) -> list[Row]:
    """The LSTM of torch.nn and of the native engine, alone and beside a process that spins."""
    shape = SHAPES[0]
    theirs, ours = pair_of("LSTM", shape)
    x, weights = data_of(shape)
    rows = []
    for name, run in {
        "nn.LSTM": Step(theirs, x, weights),
        "native": Step(ours, x, weights),
    }.items():
        alone = _times(run, rounds)
        with subprocess.Popen([sys.executable, "-c", SPIN]) as spinner:
            time.sleep(0.5)
            beside = _times(run, rounds)
            spinner.kill()
        ratios = [b / statistics.median(alone) for b in beside]
        low, middle, high = statistics.quantiles(ratios, n=4)
        case = f"train {case_of('LSTM', shape)}"
        rows.append(
            Row(case, f"{name}, one core spinning", f"{name} alone", middle, low, high, "x slower")
        )
    return rows


def _times(run: Callable[[], object], rounds: int) -> list[float]:
    times = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        run()
        if number:
            times.append(time.perf_counter() - start)
    return times
