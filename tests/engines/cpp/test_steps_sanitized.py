"""Compiled steps in a process of their own, under sanitizers of memory and undefined behaviour."""

import subprocess
import sys

import pytest
from engines.cpp import fuzz

from throughtime.engines.cpp.compiler import find_compiler

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


def test_clean(tmp_path) -> None:
    env = fuzz.environment(tmp_path)
    if env is None:
        pytest.skip("the compiler has no address sanitizer")
    words = [sys.executable, "-c", "from engines.cpp.steps_seed import run; print(run(7))"]
    ran = subprocess.run(words, env=env, capture_output=True, text=True, timeout=fuzz.LIMIT)
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-6000:]}"
    assert ran.stdout.splitlines()[-1] == "9"
