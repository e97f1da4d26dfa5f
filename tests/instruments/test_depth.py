"""Gradients and Jacobians by depth: chains of matrices, whose gradients and products are known."""

import math

import pytest
import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.instruments import gradient_by_depth, jacobians, jacobians_by_depth, record
from throughtime.models import build_model
from throughtime.tasks.kinds import Classes, Images


def _chain(layers: int, size: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(size, size) for _ in range(layers))).double()


def test_gradients_equal_products_of_matrices() -> None:
    model, x = _chain(6), torch.randn(3, 5).double()
    flow = gradient_by_depth(model, lambda: model(x).square().sum() / 2)
    outputs = [x]
    for layer in model:
        outputs.append(layer(outputs[-1]))
    gradient = outputs[-1]
    for k in reversed(range(6)):
        torch.testing.assert_close(flow.norm[k], gradient.norm().detach(), rtol=1e-12, atol=0)
        own = (gradient.T @ outputs[k]).norm().detach()
        torch.testing.assert_close(flow.contribution[k], own, rtol=1e-12, atol=0)
        gradient = gradient @ model[k].weight  # pyright: ignore
    assert flow.layers == tuple("012345")
    assert flow.arriving == float(flow.norm[0] / flow.norm[-1])
    assert torch.equal(flow.contribution_by_lag, flow.contribution.flip(0))


def test_half_life_and_reach_of_a_known_decay() -> None:
    model = _chain(20)
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(0.5 * torch.eye(5))  # pyright: ignore
    flow = gradient_by_depth(model, lambda: model(torch.ones(2, 5).double()).sum())
    assert flow.half_life() == pytest.approx(1, abs=1e-12)
    assert flow.reach(0.01) == 6
    assert flow.norm_by_lag[3] == pytest.approx(math.sqrt(10) / 8)


def test_singular_values_equal_those_of_the_product() -> None:
    model, x = _chain(7), torch.randn(3, 5).double()
    found = jacobians_by_depth(model, lambda: model(x), item=1)
    product = torch.eye(5).double()
    for n, layer in enumerate(reversed(model)):
        weight = layer.weight.detach()  # pyright: ignore
        product = product @ weight
        expected = torch.linalg.svdvals(product).log()
        torch.testing.assert_close(found.log_products[n], expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            found.singular_values[6 - n], torch.linalg.svdvals(weight), rtol=1e-12, atol=1e-12
        )
    assert bool((found.log_norm <= found.log_norm_bound + 1e-9).all())


def test_depth_equals_time_where_layers_are_steps() -> None:
    """An RNN without input is a chain of equal layers."""
    torch.manual_seed(0)
    rnn = nn.RNN(1, 4).double()
    biases = [rnn.get_parameter(f"bias_{name}_l0") for name in ("hh", "ih")]

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(rnn.get_parameter("weight_hh_l0").detach())
            self.bias = nn.Parameter((biases[0] + biases[1]).detach())

        def forward(self, h: Tensor) -> Tensor:
            return (h @ self.weight.T + self.bias).tanh()

    chain, start = nn.Sequential(*(Step() for _ in range(9))), torch.randn(2, 4).double()
    zeros = torch.zeros(9, 2, 1).double()
    recording = record(rnn, lambda: rnn(zeros, start[None])[0].sum())
    time, depth = (
        jacobians(recording, sequence=1),
        jacobians_by_depth(chain, lambda: chain(start), item=1),
    )
    names = ("norms", "singular_values", "spectral_radius", "non_normality", "log_products")
    for name in (*names, "lags", "measured", "log_norm_bound"):
        torch.testing.assert_close(getattr(depth, name), getattr(time, name), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        ("residual:depth=100", 1, 1e3),
        ("plain:depth=100", 1e5, 1e12),
        ("plain:depth=100,batch-norm=false,init=torch", 0, 1e-10),
        ("residual:depth=20,maps=convolution,widths=4,recompute=true", 0.1, 1e3),
    ],
)
def test_networks_of_images(spec: str, low: float, high: float) -> None:
    torch.manual_seed(0)
    model = build_model(spec, Images(5, 5), Classes(3))
    x = torch.randn(16, 1, 5, 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flow = gradient_by_depth(model, lambda: model(x).logsumexp(1).sum())
    assert low <= flow.arriving <= high
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_block_that_mixes_items_is_differentiated_by_one() -> None:
    torch.manual_seed(0)
    model = build_model("residual:depth=4,widths=6", Images(3, 3), Classes(2)).double()
    x = torch.randn(4, 1, 3, 3).double()
    found = jacobians_by_depth(model, lambda: model(x), item=2)
    h = model.get_submodule("first")(x.flatten(1)).detach()
    block = model.get_submodule("blocks.0")
    full: Tensor = torch.autograd.functional.jacobian(block, h)  # pyright: ignore
    expected = torch.linalg.svdvals(full[2, :, 2])
    torch.testing.assert_close(found.singular_values[0], expected, rtol=1e-10, atol=1e-10)
    assert found.layer == "blocks"


def test_what_cannot_be_measured_is_refused() -> None:
    model, x = _chain(3), torch.randn(2, 5).double()

    def twice() -> Tensor:
        return model[0](model(x)).sum()

    with pytest.raises(ConfigurationError, match="layer '0': got 2 calls"):
        gradient_by_depth(model, twice)
    with pytest.raises(ConfigurationError, match="at least two layers"):
        gradient_by_depth(nn.Linear(2, 2), lambda: torch.ones(()))
    with pytest.raises(ConfigurationError, match="got 'blocks'"):
        gradient_by_depth(model, lambda: model(x).sum(), layers="blocks")
    with pytest.raises(ConfigurationError, match="a scalar"):
        gradient_by_depth(model, lambda: model(x))
    with pytest.raises(ConfigurationError, match="item: got 2, expected from 0 to 1"):
        jacobians_by_depth(model, lambda: model(x), item=2)
    with pytest.raises(ConfigurationError, match="top"):
        jacobians_by_depth(model, lambda: model(x), top=6)
    wide = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 7)).double()
    with pytest.raises(ConfigurationError, match="layer '1': got 5 numbers in, 7 out"):
        jacobians_by_depth(wide, lambda: wide(x))
    nn.init.constant_(model[0].weight, math.inf)  # pyright: ignore
    with pytest.raises(ConfigurationError, match="not finite"):
        jacobians_by_depth(model, lambda: model(x))
