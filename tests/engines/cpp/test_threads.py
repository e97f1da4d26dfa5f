"""The threads of the native engine: those of torch where its OpenMP library is known."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from throughtime.engines.cpp.compiler import find_compiler

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")

_ON_TORCHS_THREADS = """
import os
import torch
import throughtime as tt
from throughtime.engines.cpp import library

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(2)
layer, x = tt.LSTM(8, 32, engine="native"), torch.randn(40, 64, 8)
with torch.no_grad():
    torch.ones(1 << 20).add_(1)  # torch makes its threads
    before = threads()
    shared = layer(x)[0]
    assert threads() == before, threads()
    for each in library._loaded.values():
        if hasattr(each, "use_openmp"):
            each.use_openmp(None, None, None, None)
    alone = layer(x)[0]
    assert threads() == before + 1, threads()
    assert bool((shared == alone).all())
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_work_is_done_by_the_threads_of_torch():
    if not (Path(torch.__file__).parent / "lib" / "libtorch_cpu.so").exists():
        pytest.skip("another build of torch")
    code = [sys.executable, "-c", _ON_TORCHS_THREADS]
    subprocess.run(code, check=True, timeout=60)
