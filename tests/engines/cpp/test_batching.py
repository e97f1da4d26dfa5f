"""The kernels under both of torch's vmaps."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import throughtime as tt
from throughtime.engines.cpp.compiler import find_compiler

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


def test_gradients_of_gradients_pass_torchs_check_of_batched_ones():
    layer = tt.GRU(2, 2, dtype=torch.float64, engine="native")
    x = torch.randn(2, 1, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: layer(x)[0], x, check_batched_grad=True)
    assert gradgradcheck(lambda x: layer(x)[0], x, check_batched_grad=True)


def test_vmap_over_a_backward_pass():
    layer = tt.LSTM(2, 3, dtype=torch.float64, engine="native")
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    output = layer(x)[0]
    cotangents = torch.randn(5, *output.shape, dtype=torch.float64)

    def pulled_back(cotangent: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(output, x, cotangent, retain_graph=True)[0]

    one_by_one = torch.stack([pulled_back(c) for c in cotangents])
    torch.testing.assert_close(torch.vmap(pulled_back)(cotangents), one_by_one)
