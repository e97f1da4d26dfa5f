"""Schedules against torch's own schedulers, which are recursions, and at their ends."""

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_pre_hook
from training.tiny import tiny

from throughtime.training import learning_rate, read_metrics, train

STEPS, WARMUP, PEAK = 37, 5, 0.3


def by_torch(schedule: str, warmup: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    n = STEPS - warmup
    after = {
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=n),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, T_max=n),
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, gamma=0.01 ** (1 / n)),
    }[schedule]
    rates = []
    scheduler = after()
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [PEAK * (k + 1) / warmup for k in range(warmup)] + rates


@pytest.mark.parametrize("warmup", [0, WARMUP])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "exponential"])
def test_closed_form_is_torchs_recursion(schedule: str, warmup: int) -> None:
    ours = [learning_rate(schedule, PEAK, step, STEPS, warmup) for step in range(STEPS)]
    assert ours == pytest.approx(by_torch(schedule, warmup), rel=1e-9)
    assert ours[warmup] == PEAK
    assert max(ours) == PEAK
    assert min(ours) > 0


@pytest.mark.parametrize(
    ("schedule", "end"),
    [("constant", PEAK), ("linear", 0.0), ("cosine", 0.0), ("exponential", 0.01 * PEAK)],
)
def test_end_is_one_update_after_the_last(schedule: str, end: float) -> None:
    assert learning_rate(schedule, PEAK, STEPS, STEPS, WARMUP) == pytest.approx(end)


def test_half_way() -> None:
    half = {s: learning_rate(s, 1.0, 50, 100) for s in ("linear", "cosine", "exponential")}
    assert half == pytest.approx({"linear": 0.5, "cosine": 0.5, "exponential": 0.1})


def test_a_run_uses_it(tmp_path) -> None:
    """What the optimiser has at each step, and what the metrics say."""
    used = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, args, kwargs: used.append(optimizer.param_groups[0]["lr"])
    )
    train(tiny(schedule="cosine", warmup_steps=3, log_every=1), tmp_path)
    handle.remove()
    rows = [row for row in read_metrics(tmp_path) if row["kind"] == "train"]
    expected = [learning_rate("cosine", 1e-3, step, 12, 3) for step in range(12)]
    assert used == expected
    assert [row["learning_rate"] for row in rows] == expected


def test_halving_is_constant_for_two_thirds() -> None:
    """15 epochs of 7 steps: constant for 10, then half of the epoch before."""
    found = [learning_rate("halving", 0.7, step, 105) for step in range(105)]
    expected = [0.7 * 0.5 ** max(0, epoch - 9) for epoch in range(15) for _ in range(7)]
    assert found == pytest.approx(expected)
