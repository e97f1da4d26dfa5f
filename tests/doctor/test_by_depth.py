"""Diagnosis of deep networks without recurrence: vanishing, exploding, and none of these."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.doctor import diagnose
from throughtime.doctor.by_depth import add_shortcuts, is_deep
from throughtime.models import build_model
from throughtime.results.diagnosis import Cause, Diagnosis
from throughtime.tasks import TASKS


def _batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    inputs = torch.randn(12, 32, 6)
    return [(x, x.sum(1, keepdim=True).sign()) for x in inputs]


def _network(layers: int, gain: float, between: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(1)
    parts: list[nn.Module] = []
    for _ in range(layers):
        weight = nn.Linear(6, 6)
        nn.init.orthogonal_(weight.weight, gain)
        parts += [weight, between()]
    return nn.Sequential(*parts, nn.Linear(6, 1))


def _diagnosed(model: nn.Module, budget: str, *, remedies: bool = True) -> Diagnosis:
    return diagnose(
        model, _batches(), nn.MSELoss(), budget=budget, remedies=remedies, progress=False
    )


def test_a_vanishing_gradient_is_found_and_shortcuts_help() -> None:
    found = _diagnosed(_network(30, 0.5), "6s")
    assert found.verdict is Cause.VANISHING
    first = found.findings[0]
    assert first.severity == "fault"
    assert first.effect is not None
    assert first.effect.value < -8  # 0.5^29 = 10^-8.7, and tanh shrinks further
    assert first.statement.startswith("The gradient vanishes by depth: from 60 to 0")
    (remedy,) = found.remedies
    assert remedy.helped
    assert found.sentence.startswith("Shortcuts around all blocks")
    model, x = _network(30, 0.5), _batches()[0][0]
    expected = _network(30, 0.5)
    exec(remedy.code, {"model": model})
    add_shortcuts(expected, lambda: expected(x))
    assert torch.equal(model(x), expected(x))


def test_an_exploding_gradient_is_measured() -> None:
    found = _diagnosed(_network(20, 2.0, nn.Identity), "2s", remedies=False)
    assert found.verdict is Cause.EXPLODING
    assert found.findings[0].effect is not None
    # 19 orthogonal matrices of gain 2, and the readout's gradient at the last of 21 layers
    assert found.findings[0].effect.value > 5
    assert found.findings[0].severity == "warning"


def test_a_gradient_that_arrives_is_no_fault() -> None:
    found = _diagnosed(_network(10, 1.0), "2s", remedies=False)
    assert found.verdict is Cause.HEALTHY
    assert not found.faulty


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("plain:depth=100,widths=8", Cause.EXPLODING),
        ("plain:depth=100,widths=8,batch-norm=false,init=torch", Cause.VANISHING),
        ("residual:depth=100,widths=8", Cause.HEALTHY),
    ],
)
def test_networks_of_a_hundred_layers(spec: str, cause: Cause) -> None:
    task = TASKS.build("digit-images")
    torch.manual_seed(0)
    model = build_model(spec, task.inputs, task.answers)
    found = diagnose(
        model,
        list(itertools.islice(task.batches("training", 16), 8)),
        lambda model, batch: task.score(model, batch).loss,
        budget="3s",
        remedies=False,
        progress=False,
    )
    assert found.verdict is cause
    assert found.pictures[0].series[0].label == "at the output"


def test_a_loss_that_is_not_finite() -> None:
    found = _diagnosed(_network(10, 1e30, nn.Identity), "2s")
    assert found.verdict is Cause.EXPLODING


def test_a_shallow_network_is_refused() -> None:
    assert not is_deep(_network(1, 1.0))
    with pytest.raises(ConfigurationError, match="recurrent"):
        _diagnosed(_network(1, 1.0), "2s")
