"""The same kernels for processors with narrower vectors and fewer registers."""

import dataclasses
import platform

import pytest
import torch
from cells.samples import MultiplicativeIntegration, StreamedCell

import throughtime as tt
from throughtime.engines import recording
from throughtime.engines.cpp import engine as native_engine
from throughtime.engines.cpp import kernel
from throughtime.engines.cpp.compiler import Search, find_compiler

COMPILER = find_compiler()
pytestmark = [
    pytest.mark.skipif(isinstance(COMPILER, str), reason="no C++ compiler"),
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags are x86's"),
]


@pytest.fixture(params=[(32, "x86-64-v3"), (16, "x86-64")], ids=["AVX2", "SSE2"])
def narrow(request, monkeypatch) -> None:
    """A compiler for another processor; this one runs its code, if it has those instructions."""
    width, machine = request.param
    if width > COMPILER.vector_bytes:
        pytest.skip("this processor has no such vectors")
    flags = [f"-march={machine}" if f.startswith("-march") else f for f in COMPILER.flags]
    other = dataclasses.replace(COMPILER, flags=tuple(flags), vector_bytes=width)
    monkeypatch.setattr(native_engine, "search", lambda: Search(other, {}))
    monkeypatch.setattr(native_engine, "_known", {})
    monkeypatch.setattr(kernel, "_kernels", {})
    monkeypatch.setattr(kernel, "_by_name", {})


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("hidden", [5, 19, 64])
def test_narrow_vectors(hidden):
    for kind in (tt.cells.ElmanCell, tt.cells.LSTMCell, StreamedCell, MultiplicativeIntegration):
        for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
            layer = tt.Recurrent(kind, 3, hidden, dtype=dtype)
            x = torch.randn(7, 5, 3, dtype=dtype, requires_grad=True)
            lengths, reset = [7, 1, 4, 7, 6], torch.rand(7, 5) < 0.2
            found = []
            for engine in ("native", "eager"):
                layer.engine = engine
                torch.manual_seed(1)
                with recording() as names:
                    outputs, _ = layer(x, lengths=lengths, reset=reset)
                assert names == [engine]
                gradients = torch.autograd.grad(outputs.square().sum(), [x, *layer.parameters()])
                found.append([outputs, *gradients])
            torch.testing.assert_close(*found, rtol=tolerance, atol=10 * tolerance)
