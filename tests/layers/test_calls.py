"""The Python that a warm call passes before it reaches the compiled code, held to a bound."""

import pytest

from benchmarks.calls import passed_by_layer
from throughtime.engines.cpp.compiler import find_compiler

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


@pytest.mark.parametrize(("training", "files", "calls"), [(False, 15, 75), (True, 16, 140)])
def test_a_warm_call_passes_few_functions(training, files, calls):
    found = passed_by_layer(training=training)
    assert found.own_files <= files, found
    assert found.own_calls <= calls, found
