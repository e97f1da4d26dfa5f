"""Features taken for time: told by a copy that runs over the other axis, in training."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from throughtime.doctor import diagnose, examination
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.features_for_time import try_other_axis
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.foreign.recording import record
from throughtime.results.diagnosis import Cause, Finding

FEATURES, SERIES = 5, 8


def batches(time: int = SERIES) -> list:
    """Batches (x, y), x (batch, features, time) of features with units of their own."""
    units = torch.tensor([4.0, 0.3, 1.0, 0.1, 2.0])[:, None]
    made = []
    for _ in range(12):
        x = units * torch.randn(16, FEATURES, time)
        made.append((x, (x[:, 0, -1] > 0).long()))
    return made


class Model(nn.Module):
    def __init__(self, layer: Any, *, steps: bool = False):
        super().__init__()
        self.memory, self.steps = layer, steps
        self.head = nn.Linear(layer.hidden_size, 2)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.memory(x if self.memory.batch_first else x.transpose(0, 1))
        outputs = outputs if self.memory.batch_first else outputs.transpose(0, 1)
        answers = self.head(outputs)
        return answers.transpose(1, 2) if self.steps else answers[:, -1]


def tried(model: nn.Module, data: list, plain: float = 0.69) -> Finding | None:
    subject = Subject(model, data, nn.CrossEntropyLoss(), 6.0)
    copied, batch = subject.copy(), subject.held_out[0]
    recording = record(copied, lambda: subject.loss(copied, batch), level=0)
    count = len(subject.held_out)
    trial = Trial([0.7] * count, [plain] * count, 100, diverged=False)
    return try_other_axis(Trainer(subject, 0), "memory", trial, recording, Clock(20.0))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("time", [FEATURES, SERIES])
@pytest.mark.parametrize("first", [True, False])
def test_features_taken_for_time(kind, time: int, first: bool) -> None:
    """Also where there are as many of the one as of the other, and no shape tells."""
    model = Model(kind(time, 6, batch_first=first))
    found = tried(model, batches(time))
    assert found is not None
    assert (found.cause, found.certainty) == (Cause.TIME_BATCH_SWAPPED, "measured")
    assert f"runs over {FEATURES} steps of {time} features" in found.statement
    assert f"input_size is then {FEATURES}" in found.remedy


def test_a_model_that_learns_as_well_as_it_is() -> None:
    assert tried(Model(nn.GRU(SERIES, 6, batch_first=True)), batches(), plain=0.001) is None


def test_time_as_it_should_be() -> None:
    data = [(x.transpose(1, 2).contiguous(), y) for x, y in batches()]
    assert tried(Model(nn.GRU(FEATURES, 6, batch_first=True)), data) is None


def test_layer_that_gets_other_features_than_the_data() -> None:
    class Embedded(Model):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.tanh())

    assert tried(Embedded(nn.GRU(SERIES, 6, batch_first=True)), batches()) is None


def test_answers_at_every_step() -> None:
    data = [(x, y[:, None].repeat(1, FEATURES)) for x, y in batches()]
    assert tried(Model(nn.GRU(SERIES, 6, batch_first=True), steps=True), data) is None


def test_the_other_axis_is_not_tried_where_the_gradient_vanishes(monkeypatch) -> None:
    """On the other axis every input is near, so that a copy learns there too."""
    called: list[Any] = []
    monkeypatch.setattr(examination, "try_other_axis", lambda *given: called.append(given))
    torch.manual_seed(1)
    inputs, targets = 0.5 * torch.randn(640, 60, 4), torch.randint(2, (640,))
    inputs[:, 0] = 0.0
    inputs[torch.arange(640), 0, targets] = 3.0
    data = list(zip(inputs.split(32), targets.split(32), strict=True))
    model = Model(nn.RNN(4, 12, batch_first=True))
    found = diagnose(model, data, nn.CrossEntropyLoss(), budget="6s", remedies=False)
    assert found.verdict is Cause.VANISHING
    assert called == []
