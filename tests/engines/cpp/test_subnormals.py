"""Gradients that vanish: what is below float32's normal numbers is zero, and no more is lost."""

import platform

import pytest
import torch

from throughtime.cells import ElmanCell, LSTMCell
from throughtime.engines import Request, engine_options, run
from throughtime.engines.cpp.compiler import find_compiler

pytestmark = [
    pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"),
        reason="no mode in which subnormal numbers are zero",
    ),
]
LEAST = torch.finfo(torch.float32).tiny


def gradients(
    kind, dtype: torch.dtype, engine: str, scale: float = 1.0, **options
) -> list[torch.Tensor]:
    torch.manual_seed(0)
    cell = kind(2, 4, dtype=dtype)
    x = torch.randn(400, 3, 2, dtype=dtype, requires_grad=True)
    state = cell.initial_state(3, dtype=dtype, device=x.device)
    with engine_options(**options):
        outputs = run(Request(cell, x, state), engine).outputs
    return list(torch.autograd.grad(scale * outputs[-1].sum(), [x, *cell.parameters()]))


@pytest.mark.parametrize("checkpoint", [None, "sqrt"])
@pytest.mark.parametrize("kind", [ElmanCell, LSTMCell])
def test_gradients_that_vanish_end_in_zeros(kind, checkpoint) -> None:
    native = gradients(kind, torch.float32, "native", checkpoint=checkpoint)
    eager = gradients(kind, torch.float32, "eager")
    tiny = eager[0].abs()
    assert ((tiny > 0) & (tiny < LEAST)).any(), "else nothing is tested"
    assert not ((native[0] != 0) & (native[0].abs() < LEAST)).any()
    for got, expected in zip(native, eager, strict=True):
        torch.testing.assert_close(
            got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
        )
    # each gradient in its own size: relative errors alone, until both are lost
    seen = eager[0].abs() > 1e3 * LEAST
    torch.testing.assert_close(native[0][seen], eager[0][seen], rtol=1e-2, atol=0)


def test_float64_keeps_them_and_torch_keeps_its_own() -> None:
    native, eager = (
        gradients(ElmanCell, torch.float64, engine, scale=1e-200)[0]
        for engine in ("native", "eager")
    )
    least = torch.finfo(torch.float64).tiny
    assert ((native != 0) & (native.abs() < least)).any()
    torch.testing.assert_close(native, eager, rtol=1e-9, atol=1e-320)
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            gradients(ElmanCell, torch.float32, "native")
            small = torch.full((100_000,), 1e-30)
            assert (small * 1e-10 > 0).all()
        finally:
            torch.set_num_threads(before)
