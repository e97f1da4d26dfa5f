"""The machine's peak of fused multiply-adds, measured on as many threads as the work is."""

import ctypes
import threading
import time
from collections.abc import Callable, Sequence

import torch

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
// Reads `count` values again and again; the sum is returned so that none is left out.
extern "C" double reads(const real* from, long count, long times) {
    vec sums[8] = {};
    for (long k = 0; k < times; k++)
        for (long i = 0; i + 8 * LANES <= count; i += 8 * LANES)
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) sums[j] += loadu(from + i + j * LANES);
    double total = 0;
    for (int j = 0; j < 8; j++)
        for (int lane = 0; lane < LANES; lane++) total += sums[j][lane];
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
    library = _library()
    times = 1_000_000
    start = time.perf_counter()
    library.chains(times)
    times = max(1, int(times * seconds / (time.perf_counter() - start)))
    took = _at_once([lambda: library.chains(times)] * threads)
    return threads * times * library.operations() / took


def read_rate(size: int, threads: int, seconds: float = 0.3) -> float:
    """Bytes a second that threads read of an array of their own each.

    Arguments:
        size: bytes of each array.
        threads: that run at once.
        seconds: about how long to measure.
    """
    library, count = _library(), size // 4
    arrays = [torch.ones(count) for _ in range(threads)]
    times = max(1, 2**28 // size)
    start = time.perf_counter()
    library.reads(arrays[0].data_ptr(), count, times)
    times = max(1, int(times * seconds / (time.perf_counter() - start)))
    runs = [lambda a=a: library.reads(a.data_ptr(), count, times) for a in arrays]
    return threads * times * size / _at_once(runs)


def _at_once(runs: Sequence[Callable[[], object]]) -> float:
    """Seconds until all have run, a thread each."""
    workers = [threading.Thread(target=run) for run in runs]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def _library() -> ctypes.CDLL:
    compiler = find_compiler()
    if isinstance(compiler, str):
        raise SystemExit(f"no peak without a compiler: {compiler}")
    library = load_library(
        _SOURCE, {"REAL": "float", "VECTOR_BYTES": compiler.vector_bytes}, compiler
    )
    library.chains.restype = library.reads.restype = ctypes.c_double
    library.chains.argtypes = [ctypes.c_long]
    library.reads.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    return library
