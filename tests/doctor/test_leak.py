"""A leak that is faster than the lag, by a copy whose state changes slowly."""

import dataclasses
from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, cross_entropy, first_steps
from torch import Tensor, nn

from throughtime.doctor.brief_training import Trial
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.intervals import exactly
from throughtime.doctor.leak import check_leak, has_gates
from throughtime.doctor.mechanism import Mechanism
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.verdict import mechanism_findings
from throughtime.foreign.found_cells import cells_found
from throughtime.instruments.gates import GateActivity
from throughtime.results.diagnosis import Cause

NEED = Need([0.7] * 3, [0.7] * 3, [0.01] * 3, 3, None, True, {}, learned=True)
LAG = 9
MECHANISM = Mechanism(
    lag=LAG,
    arriving=exactly(-5.0),
    growth=exactly(0.0),
    by_lag=(1.0,),
    retention=None,
    keeping=None,
    dead=exactly(0.0),
    saturated=exactly(0.0),
    units=5,
    activity=GateActivity("rnn", 0, 0, 9, None, None, None, None, torch.zeros(5) > 0, None, {}),
)


class Leaky(nn.Module):
    """A step of a rate network; with a gate, of one whose leak depends on the input."""

    def __init__(self, leak: float, *, gate: bool = False):
        super().__init__()
        self.given, self.own = nn.Linear(WIDTH, 5), nn.Linear(5, 5, bias=False)
        self.gate = nn.Linear(WIDTH, 5) if gate else None
        self.leak = leak

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        part = self.leak if self.gate is None else self.gate(x).sigmoid()
        return state + part * (self.given(x) + self.own(state.tanh()) - state)


class Network(nn.Module):
    """A classifier of the last state."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 5)
        for step in x.unbind(1):
            state = self.layer(step, state)
        return self.head(state)


def copies_of(model: nn.Module) -> FreshCopies:
    subject = Subject(model, first_steps(4), cross_entropy, 1.0)

    def enough(losses: list[float]) -> bool:
        return losses[0] < 0.1

    return FreshCopies(Trainer(subject, 0), "layer", NEED, Clock(60.0), enough)


def trial(loss: float, updates: int) -> Trial:
    return Trial([0.7] * 3, [loss] * 3, updates, diverged=False)


@pytest.mark.parametrize(
    ("layer", "after", "updates", "found"),
    [
        (Leaky(1.0), 0.01, 120, True),
        (Leaky(1.0), 0.01, 200, False),  # hardly sooner
        (Leaky(1.0), 0.3, 120, False),  # it does not learn as much
        (Leaky(1.0, gate=True), 0.01, 120, False),
        (nn.RNNCell(WIDTH, 5), 0.01, 120, False),
        (nn.GRUCell(WIDTH, 5), 0.01, 120, False),
    ],
)
def test_a_slow_state_is_learned_sooner(
    layer: nn.Module,
    after: float,
    updates: int,
    found: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    losses: list[float] = []

    def train(self: FreshCopies, name: str, change: Any, *, given: bool) -> Trial:
        del name
        condition = change(self.condition(given=given))
        losses.append(condition.loss(self.trainer.subject.held_out[0]).item())
        return trial(after, updates)

    monkeypatch.setattr(FreshCopies, "train", train)
    copies = copies_of(Network(layer))
    subject = copies.trainer.subject
    batch = subject.held_out[0]
    with cells_found(subject.copy(), lambda model: subject.loss(model, batch)):
        suspects = mechanism_findings(MECHANISM, None, "here")
        fault = check_leak(copies, MECHANISM, trial(0.02, 300), suspects, "here")
        assert check_leak(copies, MECHANISM, trial(0.02, 300), [], "here") is None
    assert (fault is not None) == found
    if fault is not None:
        assert fault.cause is Cause.FORGETTING
        slow = Network(Leaky(1.0 / LAG))
        slow.load_state_dict(subject.copy().state_dict())
        assert losses[0] == pytest.approx(cross_entropy(slow, batch).item())
        assert copies.remedies[0].code == "state = state + (new_state - state) / 9"


@pytest.mark.parametrize("gate", [False, True])
def test_gates_are_sigmoids(gate: bool) -> None:
    subject = copies_of(Network(Leaky(0.5, gate=gate))).trainer.subject
    with cells_found(subject.copy(), lambda model: subject.loss(model, subject.held_out[0])):
        assert has_gates(subject, "layer") == gate


def test_a_layer_with_gates_of_its_own_is_left_alone() -> None:
    gated = dataclasses.replace(MECHANISM, retention=exactly(1e-5))
    suspects = mechanism_findings(gated, None, "here")
    copies = copies_of(Network(nn.LSTM(WIDTH, 5)))
    assert check_leak(copies, gated, trial(0.02, 300), suspects, "here") is None
