"""Bounds on the products of Jacobians: never below what is measured, and exact where they are."""

import math

import pytest
import torch
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from instruments.jacobian_runs import linear, recorded

import throughtime as tt
from throughtime.instruments import record
from throughtime.instruments.jacobians import jacobians


@settings(max_examples=examples(8))
@given(
    kind=st.sampled_from(["tanh", "relu", "identity"]),
    size=st.integers(1, 9),
    scale=st.floats(0.1, 3.0),
    seed=st.integers(0, 10**6),
)
def test_no_bound_lies_below_what_is_measured(kind, size, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    model = tt.RNN(2, size, nonlinearity=kind, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, scale / size**0.5, generator=generator)
    x = torch.randn(12, 1, 2, dtype=torch.float64, generator=generator)
    result = jacobians(record(model, lambda: model(x)[0].sum()))
    slack = 1e-9 * (1 + result.log_norm.clamp(min=-1e3).abs())
    bounds = (result.log_norm_bound, result.log_power_bound, result.log_hochreiter_bound)
    for bound in bounds:
        assert bool((result.log_norm <= bound + slack).all())
    assert bool((result.log_norm_bound <= result.log_power_bound + slack).all())
    if kind == "identity" and size == 1:  # then nothing is lost on the way
        for bound in bounds:
            torch.testing.assert_close(result.log_norm, bound)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "lags", "projection"])
def test_of_other_cells_only_the_norms_are_known_to_bound(name):
    result = jacobians(recorded(name))
    assert result.log_power_bound is None
    assert result.log_hochreiter_bound is None
    assert bool((result.log_norm <= result.log_norm_bound + 1e-9).all())
    assert bool((result.log_norm[1:] < result.log_norm_bound[1:]).all())


def test_bounds_by_hand():
    result = jacobians(linear([[0.0, 2.0], [0.5, 0.0]], 4))
    assert result.log_power_bound is not None
    torch.testing.assert_close(
        result.log_power_bound, torch.arange(1, 5).double() * math.log(2), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        result.log_hochreiter_bound, math.log(2) + torch.arange(1, 5).double() * math.log(2)
    )
    # the square is the identity, though no bound sees it: they are of norms
    torch.testing.assert_close(result.log_norm[1::2], torch.zeros(2).double(), atol=1e-12, rtol=0)
