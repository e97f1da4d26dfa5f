"""Losses of a softmax readout against torch's cross-entropy, in values and derivatives."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from throughtime.models import readout_loss
from throughtime.models.readout_loss import readout_losses


def example(rows: int = 7) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(rows, 3, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(-1, 6, (rows, 3))
    return nn.Linear(4, 6, dtype=torch.float64), x, targets


def expected(readout: nn.Linear, x: Tensor, targets: Tensor) -> Tensor:
    z, flat = readout(x).flatten(0, 1), targets.flatten()
    return F.cross_entropy(z, flat, ignore_index=-1, reduction="none").view(targets.shape)


@pytest.mark.parametrize("rows", [1, 7, 200])  # 600 targets are more than one part
def test_values_and_gradients_are_those_of_cross_entropy(rows: int) -> None:
    readout, x, targets = example(rows)
    leaves, above = [x, *readout.parameters()], torch.randn(rows, 3, dtype=torch.float64)
    found, wanted = (f(readout, x, targets) for f in (readout_losses, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    for _ in range(2):  # the second time from the same graph
        got = torch.autograd.grad(found, leaves, above, retain_graph=True)
        due = torch.autograd.grad(wanted, leaves, above, retain_graph=True)
        torch.testing.assert_close(got, due, rtol=1e-12, atol=1e-12)


def test_first_and_second_derivatives() -> None:
    readout, x, targets = example(2)

    def losses(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        due = targets >= 0
        return readout_loss._Losses.apply(x[due], weight, bias, targets[due])

    assert gradcheck(losses, (x, *readout.parameters()), check_batched_grad=True)
    assert gradgradcheck(losses, (x, *readout.parameters()))


def test_large_logits_and_frozen_weights() -> None:
    readout, x, targets = example()
    readout.requires_grad_(False)
    with torch.no_grad():
        x.mul_(1e6)
    found = readout_losses(readout, x, targets)
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected(readout, x, targets))
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.isfinite().all()


def test_no_target_is_due() -> None:
    readout, x, targets = example()
    found = readout_losses(readout, x, torch.full_like(targets, -1))
    assert not found.any()
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert not gradient.any()


def test_a_hook_of_the_readout_is_called() -> None:
    readout, x, targets = example()
    calls: list[Tensor] = []
    with readout.register_forward_hook(lambda module, given, out: calls.append(out)):
        found = readout_losses(readout, x, targets)
    assert len(calls) == 1
    torch.testing.assert_close(found, expected(readout, x, targets))


def test_transforms_and_forward_derivatives_go_through_torchs_own_functions() -> None:
    readout, x, targets = example(2)
    x = x.detach()

    def loss(x: Tensor) -> Tensor:
        return readout_losses(readout, x, targets.clamp(min=0)).sum()

    wanted = torch.autograd.functional.jacobian(loss, x)
    torch.testing.assert_close(torch.func.grad(loss)(x), wanted)
    _, slope = torch.func.jvp(loss, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(slope, wanted.sum())
