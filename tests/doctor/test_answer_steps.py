"""Steps at which a layer is read: its first, another sample's, zeros after a sequence's end."""

from typing import Any

import pytest
import torch
from doctor.faulty_models import BATCH, TIME, WIDTH, Classifier, cross_entropy, first_steps
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from throughtime.doctor.answer_steps import (
    check_one_step,
    check_read_steps,
    try_whole_halves,
    whole_halves,
)
from throughtime.doctor.gradient_cut import flow_in_double
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.sample_axes import SampleAxes
from throughtime.doctor.subject import Clock, Subject
from throughtime.foreign.recording import record
from throughtime.results.diagnosis import Cause, Finding


class Picks(nn.Module):
    """Reads a layer's output by a function of the user's."""

    def __init__(self, layer: nn.Module, pick: Any):
        super().__init__()
        self.memory, self.pick = layer, pick
        width = layer.hidden_size * (2 if getattr(layer, "bidirectional", False) else 1)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pick(*self.memory(x)))


def found(model: nn.Module, batches: list, loss: Any = cross_entropy) -> Finding | None:
    subject = Subject(model, batches, loss, 6.0)
    copied, batch = subject.copy(), subject.held_out[0]
    flow = flow_in_double(subject, "memory", batch)
    recording = record(copied, lambda: subject.loss(copied, batch), layer="memory", level=0)
    axes = SampleAxes(tuple(0 for _ in batch), len(batch[-1]), "given")
    return check_one_step(subject, "memory", recording) or check_read_steps(
        subject, "memory", axes, flow, recording
    )


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_first_step(kind) -> None:
    layer = kind(WIDTH, 4, batch_first=True)
    wrong = found(Picks(layer, lambda out, state: out[:, 0]), first_steps(4))
    assert wrong is not None
    assert (wrong.cause, wrong.certainty) == (Cause.WRONG_STEP, "proved")
    assert "out[:, -1] in place of out[:, 0]" in wrong.remedy
    for pick in (lambda out, state: out[:, -1], lambda out, state: out.mean(1)):
        assert found(Picks(layer, pick), first_steps(4)) is None


def test_last_sample() -> None:
    """As many samples as steps, so that no shape tells."""
    batches = first_steps(4, TIME)
    layer = nn.LSTM(WIDTH, 4, batch_first=True)
    wrong = found(Picks(layer, lambda out, state: out[-1]), batches)
    assert wrong is not None
    assert wrong.cause is Cause.WRONG_STEP
    assert f"sample {TIME} of {TIME} alone" in wrong.statement
    assert "the last step of out, the output of 'memory', is out[:, -1]" in wrong.remedy
    assert found(Picks(layer, lambda out, state: out[:, -1]), batches) is None


def test_one_sample_that_counts_alone_is_no_fault() -> None:
    """Weights of 0 for all others; its answer is its own."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0])[:1], batch[1][:1])

    layer = nn.GRU(WIDTH, 4, batch_first=True)
    assert found(Picks(layer, lambda out, state: out[:, -1]), first_steps(4), loss) is None


@pytest.mark.parametrize("step", [0, -1])
def test_half_of_a_bidirectional_layer_at_its_start(step: int) -> None:
    layer = nn.GRU(WIDTH, 4, batch_first=True, bidirectional=True)
    wrong = found(Picks(layer, lambda out, state: out[:, step]), first_steps(4))
    assert wrong is not None
    assert (wrong.cause, wrong.severity) == (Cause.WRONG_STEP, "warning")
    assert ("forward" if step == 0 else "backward") + " half of 'memory'" in wrong.statement
    for pick in (
        lambda out, state: torch.cat([state[-2], state[-1]], -1),
        lambda out, state: out.amax(1),
    ):
        assert found(Picks(layer, pick), first_steps(4)) is None


def test_halves_that_are_joined_are_those_of_the_final_state() -> None:
    for first in (True, False):
        layer = nn.GRU(WIDTH, 4, batch_first=first, bidirectional=True)
        x = torch.randn(5, 6, WIDTH)
        with whole_halves(layer):
            outputs, state = layer(x)
        plain = layer(x)[0]
        axis = 1 if first else 0
        for step in (0, -1):
            assert torch.equal(outputs.select(axis, step), torch.cat([state[0], state[1]], -1))
        assert torch.equal(outputs.narrow(axis, 1, 3), plain.narrow(axis, 1, 3))
        assert torch.equal(layer(x)[0], plain)


class Unpacked(nn.Module):
    """Packs, and reads the unpacked outputs at a step."""

    def __init__(self, right: bool):
        super().__init__()
        self.memory = nn.GRU(WIDTH, 4, batch_first=True)
        self.head = nn.Linear(4, 2)
        self.right = right

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.memory(packed)[0], batch_first=True)
        last = lengths - 1 if self.right else torch.full_like(lengths, outputs.shape[1] - 1)
        return self.head(outputs[torch.arange(len(x)), last])


def test_zeros_of_an_unpacked_sequence() -> None:
    lengths = torch.arange(BATCH) % 5 + TIME - 4
    batches = [(x, lengths, y) for x, y in first_steps(4)]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0], batch[1]), batch[2])

    wrong = found(Unpacked(right=False), batches, loss)
    assert wrong is not None
    assert wrong.cause is Cause.PADDING_READ
    assert "lengths - 1" in wrong.remedy
    assert found(Unpacked(right=True), batches, loss) is None


def test_sequences_of_one_step() -> None:
    batches = [(x[:, :1], y) for x, y in first_steps(4)]
    wrong = found(Picks(nn.LSTM(WIDTH, 4, batch_first=True), lambda out, _: out[:, -1]), batches)
    assert wrong is not None
    assert wrong.cause is Cause.ONE_STEP
    assert f"{BATCH} sequences of one step" in wrong.statement


class Stepped(nn.Module):
    """One step at a time, from the state of the call before."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRUCell(WIDTH, 4)
        self.head = nn.Linear(4, 2)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.state = self.memory(x[:, 0], None if self.state is None else self.state.detach())
        return self.head(self.state)


def test_one_step_from_a_state_is_no_sequence_of_one_step() -> None:
    batches = [(x[:, :1], y) for x, y in first_steps(4)]
    assert found(Stepped(), batches) is None


def test_a_right_answer_at_the_first_step_is_a_warning() -> None:
    """The class is shown at the first step, and read there."""
    model = Classifier(nn.RNN(WIDTH, 2, batch_first=True), 2)
    memory = Picks(model.layer, lambda out, state: out[:, 0])
    with torch.no_grad():
        for weight in memory.parameters():
            weight.zero_()
        memory.memory.weight_ih_l0[0, 0] = 3.0
        memory.head.weight[1, 0] = 3.0
    wrong = found(memory, first_steps(8))
    assert wrong is not None
    assert wrong.severity == "warning"


@pytest.mark.parametrize("cue", [0, 23])
def test_half_that_matters(cue: int) -> None:
    """The class is shown at one end; the forward half has it at hand if that is the last."""
    torch.manual_seed(0)
    batches = []
    for _ in range(12):
        x, y = 0.5 * torch.randn(16, 24, 2), torch.randint(2, (16,))
        x[:, cue, 0] += 4.0 * y - 2.0
        batches.append((x, y))
    layer = nn.RNN(2, 4, batch_first=True, bidirectional=True)
    subject = Subject(Picks(layer, lambda out, state: out[:, -1]), batches, cross_entropy, 6.0)
    warning = found(subject.copy(), batches)
    assert warning is not None
    confirmed = try_whole_halves(Trainer(subject, 0), "memory", warning, Clock(20.0))
    assert confirmed.severity == ("fault" if cue == 0 else "warning")
