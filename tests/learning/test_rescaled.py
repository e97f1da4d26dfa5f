"""Steps of the length lr, whatever the norms of the gradients."""

import pytest
import torch
from torch import nn

from throughtime.core.errors import ConfigurationError
from throughtime.learning import Rescaled


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_steps_follow_their_equation(scale: float) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(3, 4))
    optimizer = Rescaled([weight], lr=0.1, momentum=0.5)
    expected, velocity = weight.detach().double().clone(), torch.zeros(3, 4, dtype=torch.float64)
    for _ in range(4):
        gradient = torch.randn(3, 4)
        weight.grad = gradient * scale
        optimizer.step()
        velocity = 0.5 * velocity + gradient.double() / gradient.double().norm()
        expected -= 0.1 * velocity
    torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_a_gradient_of_zero_or_none_makes_no_step() -> None:
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    weights[0].grad = torch.zeros(2)
    optimizer = Rescaled(weights)

    def closure() -> torch.Tensor:
        return weights[0].sum()

    assert optimizer.step(closure).item() == 2
    assert all(torch.equal(weight, torch.ones(2)) for weight in weights)


@pytest.mark.parametrize(("lr", "momentum"), [(0, 0), (-1, 0), (0.1, 1), (0.1, -0.1)])
def test_numbers_out_of_range_are_refused(lr: float, momentum: float) -> None:
    with pytest.raises(ConfigurationError, match="lr above 0, momentum in"):
        Rescaled([nn.Parameter(torch.ones(1))], lr, momentum)
