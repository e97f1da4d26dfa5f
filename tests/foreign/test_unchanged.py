"""Whatever a block does to a model, to its forward and to random states is undone after it."""

import random
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn

from throughtime import errors
from throughtime.engines import unroll
from throughtime.foreign.sites import kept_outputs, replaced_forward, run_by
from throughtime.foreign.unchanged import evaluating, random_states_kept, unchanged


def draws() -> tuple[float, float, float]:
    return float(torch.rand(())), random.random(), float(np.random.rand())  # noqa: NPY002


def test_random_states_are_put_back_also_after_an_error() -> None:
    with random_states_kept(3):
        first = draws()
    with random_states_kept(5):
        torch.manual_seed(1)
        expected = draws()
    with random_states_kept(5):
        torch.manual_seed(1)
        with suppress(RuntimeError), random_states_kept():
            draws()
            raise RuntimeError
        assert draws() == expected
    with random_states_kept(3):
        assert draws() == first


def test_a_model_is_unchanged_in_values_objects_and_modes() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    model[1].train()
    model[0].weight.requires_grad_(False)
    model[0].bias.grad = torch.ones(2)
    before = {
        name: (value, value.clone()) for name, value in model.state_dict(keep_vars=True).items()
    }
    with unchanged(model):
        model.train()
        model(torch.randn(4, 2))
        model[0].weight.requires_grad_(True)
        model[0].bias.grad = None
        with torch.no_grad():
            model[0].weight.add_(1)
        model[1].running_mean = torch.zeros(2)
    assert [module.training for module in model] == [False, True]
    assert not model[0].weight.requires_grad
    assert torch.equal(model[0].bias.grad, torch.ones(2))
    for name, value in model.state_dict(keep_vars=True).items():
        assert value is before[name][0]
        assert torch.equal(value, before[name][1])


def test_evaluation_keeps_the_mode_of_each_module() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not model(torch.ones(1, 2)).requires_grad
    assert [module.training for module in model] == [True, False]
    assert torch.is_grad_enabled()


def test_a_forward_is_replaced_within_nested_blocks_alone() -> None:
    layer, x = nn.Linear(1, 1), torch.ones(1)
    own = layer(x)
    with replaced_forward(layer, lambda x: x + 1):
        with suppress(RuntimeError), replaced_forward(layer, lambda x: x + 2):
            assert layer(x) == 3
            raise RuntimeError
        assert layer(x) == 2
    assert torch.equal(layer(x), own)
    assert "forward" not in vars(layer)


def test_a_module_with_a_forward_of_its_own_is_refused() -> None:
    layer = nn.RNN(1, 1)
    with (
        replaced_forward(layer, lambda x: x),
        pytest.raises(errors.ConfigurationError, match="a forward of its own"),
        run_by(layer, lambda request, place: None),
    ):
        pass


def test_every_request_has_its_place() -> None:
    layer, x = nn.GRU(2, 3, num_layers=2, bidirectional=True), torch.randn(4, 1, 2)
    places = []

    def run(request, place):
        places.append(tuple(place))
        return unroll(request)

    expected = layer(x)[0]
    with run_by(layer, run), kept_outputs(layer) as outputs:
        layer(x)
        layer(x)
    one = [(level, direction) for level in range(2) for direction in range(2)]
    assert places == [(call, *cell) for call in range(2) for cell in one]
    torch.testing.assert_close(outputs[1][0], expected)
    layer(x)
    assert len(outputs) == 2
