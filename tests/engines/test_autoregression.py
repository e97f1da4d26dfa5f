"""A recurrence whose weights change with each step: both engines, and NADE by enumeration."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from throughtime import errors
from throughtime.engines.autoregression import autoregression
from throughtime.engines.cpp.compiler import find_compiler

needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
ENGINES = ["eager", pytest.param("native", marks=needs_compiler)]


def arguments(batch, steps, units, dtype=torch.float64):
    x = torch.randn(batch, steps, dtype=dtype) * (torch.rand(batch, steps) < 0.6)
    shapes = ((batch, units), (steps, units), (steps, units))
    return [x, *(torch.randn(shape, dtype=dtype) for shape in shapes)]


def naive(x, a, weight, readout):
    """The sums from their definition, without a recurrence: a_d = a_0 + sum of x_j W_j, j < d."""
    steps = x.shape[1]
    z = [((a + x[:, :d] @ weight[:d]).sigmoid() * readout[d]).sum(1) for d in range(steps)]
    return torch.stack(z, 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 5, 7), (8, 33, 16), (19, 70, 21)])
@pytest.mark.parametrize("threads", [1, 3])
def test_values_and_gradients_are_those_of_the_definition(sizes, engine, threads) -> None:
    given = [t.requires_grad_() for t in arguments(*sizes)]
    above = torch.randn(sizes[:2], dtype=torch.float64)
    expected, before = naive(*given), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = autoregression(*given, engine=engine)
        gradients = torch.autograd.grad(
            found, given, above, materialize_grads=True, allow_unused=True
        )
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        gradients,
        torch.autograd.grad(expected, given, above, materialize_grads=True, allow_unused=True),
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_float32_and_forms_in_memory(engine) -> None:
    """Transposed and expanded tensors, and gradients of some alone."""
    x, _, weight, readout = arguments(11, 40, 10, torch.float32)
    bias = torch.randn(10, requires_grad=True)
    readout = readout.t().contiguous().t().requires_grad_()
    found = autoregression(
        x.t().contiguous().t(), bias.expand(11, 10), weight, readout, engine=engine
    )
    expected = naive(x, bias.expand(11, 10), weight, readout)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        *(torch.autograd.grad(z.square().sum(), (bias, readout)) for z in (found, expected)),
        rtol=1e-4,
        atol=1e-3,
    )
    assert not autoregression(x, bias.detach().expand(11, 10), weight, weight).requires_grad


@pytest.mark.parametrize("engine", ENGINES)
def test_the_probabilities_of_all_binary_vectors_add_up_to_one(engine) -> None:
    steps = 6
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=steps)), dtype=torch.float64)
    _, _, weight, readout = arguments(1, steps, 4)
    logits = autoregression(x, torch.zeros(len(x), 4).double(), weight, readout, engine=engine)
    log_probability = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    torch.testing.assert_close(log_probability.exp().sum(), torch.ones(()).double())


@needs_compiler
def test_not_a_number_stays_one() -> None:
    given = arguments(3, 5, 4)
    given[0][1, 2] = torch.nan
    found = autoregression(*given, engine="native")
    assert found.isnan().tolist() == autoregression(*given, engine="eager").isnan().tolist()


def test_what_does_not_fit_is_refused(unchecked) -> None:
    given = arguments(3, 5, 4)
    for i in range(4):
        for wrong in (given[i][:, :-1], given[i][:-1], given[i][0], given[i][None]):
            with pytest.raises(errors.ShapeError):
                autoregression(*(wrong if j == i else t for j, t in enumerate(given)))
    with pytest.raises(errors.UnknownNameError):
        autoregression(*given, engine="fast")
    with pytest.raises(errors.EngineRefusalError, match="float32 or float64"):
        autoregression(*(t.bfloat16() for t in given), engine="native")
