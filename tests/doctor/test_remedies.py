"""Faults undone from outside, and what changes do to a copy."""

import pytest
import torch
from doctor.patients import WIDTH, Chunked, Classifier, Keeping, cross_entropy, first_steps
from torch import nn

from throughtime.doctor.remedies import CHANGES, make_arm, train_arm
from throughtime.doctor.subject import Clock, Subject
from throughtime.instruments.sites import find_recurrent


def subject(model: nn.Module, count: int = 4) -> Subject:
    return Subject(model, first_steps(count), cross_entropy, Clock(60))


def change(name: str):
    (found,) = [c for c in CHANGES if c.name.startswith(name)]
    return found


def gradient(model: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize(
    ("between", "name"),
    [("detach", "the graph kept"), ("no_grad", "the graph kept"), ("drop", "the state passed on")],
)
def test_cut_and_dropped_states_are_mended_exactly(between: str, name: str) -> None:
    """The loss and every gradient are those of the model without the fault."""
    broken, right = Chunked(between).double(), Chunked("carry").double()
    right.load_state_dict(broken.state_dict())
    s = subject(broken)
    batch = (s.training[0][0].double(), s.training[0][1])
    arm = make_arm(s, "layer", change(name), 5)
    mended, expected = arm.loss(batch), cross_entropy(right, batch)
    torch.testing.assert_close(mended, expected)
    for a, b in zip(gradient(arm.model, mended), gradient(right, expected), strict=True):
        torch.testing.assert_close(a, b)


def test_a_kept_state_is_dropped() -> None:
    s = subject(Keeping())
    arm = make_arm(s, "layer", change("a fresh state"), 5)
    first = arm.loss(s.training[0])
    arm.loss(s.training[1])
    torch.testing.assert_close(arm.loss(s.training[0]), first)


def test_chrono_sets_the_gates_and_leaves_the_original() -> None:
    s = subject(Classifier(nn.LSTM(WIDTH, 6, batch_first=True)))
    arm = make_arm(s, "layer", change("gate biases by chrono"), 50)
    _, layer = find_recurrent(arm.model)
    forget = (layer.bias_ih_l0 + layer.bias_hh_l0)[6:12]
    assert (forget >= 0).all()
    assert (forget <= torch.tensor(100.0).log()).all()
    write = (layer.bias_ih_l0 + layer.bias_hh_l0)[:6]
    torch.testing.assert_close(write, -forget)
    _, untouched = find_recurrent(s.copy())
    assert not torch.equal(untouched.bias_ih_l0, layer.bias_ih_l0)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_orthogonal_blocks(kind) -> None:
    s = subject(Classifier(kind(WIDTH, 6, batch_first=True)))
    _, layer = find_recurrent(make_arm(s, "layer", change("orthogonal"), 5).model)
    for block in layer.weight_hh_l0.split(6):
        torch.testing.assert_close(block @ block.T, torch.eye(6), atol=1e-5, rtol=0)


def test_arms_are_trained_alike() -> None:
    s = subject(Classifier(nn.GRU(WIDTH, 6, batch_first=True)), 8)
    trials = [
        train_arm(s, make_arm(s, "layer", None, 5), seconds=60, updates=12, seed=3)
        for _ in range(2)
    ]
    assert trials[0] == trials[1]
    assert trials[0].updates == 12
    assert not trials[0].diverged
