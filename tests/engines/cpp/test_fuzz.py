"""A short form of the fuzzer: one seed, in a process of its own, under sanitizers."""

import pytest
from engines.cpp import fuzz

from throughtime.engines.cpp.compiler import find_compiler

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


def test_one_seed(tmp_path) -> None:
    env = fuzz.environment(tmp_path)
    if env is None:
        pytest.skip("the compiler has no address sanitizer")
    counts, wrong = fuzz.run_seed(20, 1, env)
    assert not wrong, wrong
    assert counts["calls"] >= 8
    assert counts["refused"] >= 8
