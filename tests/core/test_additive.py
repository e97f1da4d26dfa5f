"""Gates that are only ever added are seen; anything else is not taken for it."""

import pytest
import torch

from throughtime.cells import CoupledLSTMCell, ElmanCell, GRUCell, LSTM1997Cell, LSTMCell
from throughtime.core.gated import is_additive

TOTALS = [torch.ones(1, 3), torch.ones(1, 3)]


@pytest.mark.parametrize(
    "pointwise",
    [
        lambda x, u: (x[0] + u[0]).tanh() * (u[1] + x[1]),
        lambda x, u: [a + b for a, b in zip(x, u, strict=True)][1],
        lambda x, u: torch.ones(1, 3),
    ],
)
def test_additive(pointwise):
    assert is_additive(pointwise, TOTALS)


@pytest.mark.parametrize(
    "pointwise",
    [
        lambda x, u: x[0] + u[1],
        lambda x, u: x[0] + x[0],
        lambda x, u: u[0] + u[0],
        lambda x, u: x[0] * u[0],
        lambda x, u: x[0] - u[0],
        lambda x, u: -x[0] + u[0],
        lambda x, u: x[0].tanh() + u[0],
        lambda x, u: torch.tanh(x[0]),
        lambda x, u: torch.where(torch.tensor(True), x[0], u[0]),
        lambda x, u: 2 * x[0] + u[0],
        lambda x, u: x[0] + 1,
        lambda x, u: 1 + x[0],
        lambda x, u: (x[0] + u[0]) * x[1],
        lambda x, u: TOTALS[0] + x[0],
        lambda x, u: x[0][..., :1] + u[0],
    ],
)
def test_not_additive(pointwise):
    assert not is_additive(pointwise, TOTALS)


def test_the_library_s_own_cells():
    for kind in (LSTMCell, CoupledLSTMCell, LSTM1997Cell, ElmanCell):
        assert kind(2, 3).additive
    assert LSTMCell(2, 3, peepholes=True).additive
    assert not GRUCell(2, 3).additive
    assert not ElmanCell(2, 3, lags=()).additive
