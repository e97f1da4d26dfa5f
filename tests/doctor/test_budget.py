"""The duration of a diagnosis, by a clock that each call of the model's layer moves on."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, Classifier, cross_entropy, echoes, first_steps
from torch import Tensor, nn

from throughtime.doctor import diagnose
from throughtime.doctor.sample_axes import sample_axes
from throughtime.doctor.subject import Clock, Subject


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Any]:
    """A function that returns a loss of given seconds, and the clock that it moves on."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def made(seconds: float) -> tuple[Callable[[nn.Module, Any], Tensor], list[float]]:
        def loss(model: nn.Module, batch: Any) -> Tensor:
            now[0] += seconds
            return cross_entropy(model, batch)

        return loss, now

    return made


@pytest.mark.parametrize("budget", [2.0, 10.0])
@pytest.mark.parametrize("cost", [0.02, 0.1])
@pytest.mark.parametrize("read", ["last", "steps"])
@pytest.mark.parametrize("options", [{}, {"lag": 5}])
def test_a_slow_model_is_diagnosed_within_five_seconds_of_the_budget(
    budget: float, cost: float, read: str, options: dict[str, Any], slow: Any
) -> None:
    torch.manual_seed(0)
    model = Classifier(nn.RNN(WIDTH, 4, batch_first=True), read=read)
    loss, now = slow(cost)
    start = now[0]
    data = first_steps(64) if read == "last" else echoes(64, shift=5)
    diagnosis = diagnose(model, data, loss, budget=budget, **options)
    assert now[0] - start <= budget + 5
    assert diagnosis.budget == budget
    assert diagnosis.seconds == pytest.approx(now[0] - start)


def test_layers_share_the_budget(slow: Any) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.RNN(WIDTH, 4, batch_first=True)
            self.second = nn.RNN(4, 4, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.second(self.first(x)[0])[0][:, -1])

    torch.manual_seed(0)
    loss, now = slow(0.02)
    start = now[0]
    diagnosis = diagnose(Two(), first_steps(64), loss, budget=4)
    assert now[0] - start <= 4 + 2 * 5
    assert diagnosis.budget == 4


def test_held_out_batches_are_kept_as_the_time_allows(slow: Any) -> None:
    model = Classifier(nn.RNN(WIDTH, 4, batch_first=True))
    for cost, kept in ((0.01, 16), (0.13, 8), (0.3, 4), (1.5, 3), (9.0, 2)):
        loss, _ = slow(cost)
        subject = Subject(model, first_steps(64), loss, 10)
        subject.limit_held_out(1.0)
        assert len(subject.held_out) == kept
        assert len(subject.training) == 48


def test_a_clock_with_less_or_more_left_than_its_budget(slow: Any) -> None:
    loss, now = slow(2.0)
    short, long = Clock(10, 4), Clock(10, 15)
    cross = Classifier(nn.RNN(WIDTH, 4, batch_first=True))
    loss(cross, first_steps(1)[0])
    assert (short.spent(), short.left(), short.longest()) == (2, 2, 5)
    assert (long.spent(), long.left(), long.longest()) == (2, 13, 16)
    now[0] += 20
    assert (short.left(), short.longest()) == (0, 0)


def test_sample_axes_of_many_symbols_take_few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, each character a function of the one before: found from fewer sequences."""
    torch.manual_seed(0)
    after = torch.randperm(32)
    steps = [torch.randint(32, (32,))]
    batches = []
    for _ in range(24):
        for _ in range(50):
            noise = torch.rand(32) < 0.3
            steps.append(torch.where(noise, torch.randint(32, (32,)), after[steps[-1]]))
        run = torch.stack(steps[-51:])
        batches.append((run[:-1], run[1:]))
    products = 0
    einsum = torch.einsum

    def counted(equation: str, a: Tensor, b: Tensor) -> Tensor:
        nonlocal products
        products += a.numel() * b.shape[-1]
        return einsum(equation, a, b)

    monkeypatch.setattr(torch, "einsum", counted)
    found = sample_axes(batches)
    assert found is not None
    assert found.axes == (1, 1)
    assert products <= 2 * 31 * 2**26
