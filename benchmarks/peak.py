"""The machine's peak of fused multiply-adds, measured on as many threads as the work is."""

import ctypes
import threading
import time

from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.cpp.library import load_library

_SOURCE = """
#include "vectors.h"
using namespace throughtime;
// Independent sums enough to hide the latency of each, returned so that none is left out.
extern "C" double chains(long times) {
    vec sums[12];
    for (int i = 0; i < 12; i++) sums[i] = broadcast(real(i) * real(1e-3));
    const vec factor = broadcast(real(0.999)), term = broadcast(real(1e-3));
    for (long k = 0; k < times; k++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) sums[i] = sums[i] * factor + term;
    }
    double total = 0;
    for (int i = 0; i < 12; i++)
        for (int lane = 0; lane < LANES; lane++) total += sums[i][lane];
    return total;
}
extern "C" long operations() { return 12 * LANES * 2; }
"""


def fma_peak(threads: int, seconds: float = 0.3) -> float:
    """Floating-point operations a second, multiplication and addition counted as two, float32.

    Arguments:
        threads: that run at once.
        seconds: about how long to measure.
    """
    compiler = find_compiler()
    if isinstance(compiler, str):
        raise SystemExit(f"no peak without a compiler: {compiler}")
    library = load_library(
        _SOURCE, {"REAL": "float", "VECTOR_BYTES": compiler.vector_bytes}, compiler
    )
    library.chains.restype = ctypes.c_double
    library.chains.argtypes = [ctypes.c_long]
    times = 1_000_000
    start = time.perf_counter()
    library.chains(times)
    times = max(1, int(times * seconds / (time.perf_counter() - start)))
    workers = [threading.Thread(target=library.chains, args=(times,)) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * times * library.operations() / (time.perf_counter() - start)
