"""What a layer is fed and where it is read, by copies whose results are planted."""

from typing import Any

import pytest
import torch
from doctor.faulty_models import BATCH, TIME, WIDTH, Classifier, cross_entropy, first_steps
from torch import Tensor, nn

from throughtime.doctor import Cause
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.fed_and_read import check_fed_and_read, viewed_shape
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.foreign.recording import record
from throughtime.instruments.gradient_flow import gradient_flow
from throughtime.results.diagnosis import Finding

NEED = Need([0.7] * 3, [0.7] * 3, [0.6] * 3, 3, None, True, {}, learned=True)


def trial(loss: float) -> Trial:
    return Trial([0.7, 0.71, 0.69], [loss, 1.01 * loss, 0.99 * loss], 500, diverged=False)


def checked(
    model: nn.Module,
    batches: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    changed: float = 0.1,
    loss: float = 0.69,
    of: Any = cross_entropy,
) -> tuple[Finding | None, dict[str, tuple[Tensor, Tensor]]]:
    """The finding, and the answers of each copy to the first batch, without and with its change."""
    torch.manual_seed(0)
    subject = Subject(model, batches, of, 6.0)
    copies = FreshCopies(Trainer(subject, 0), "layer", NEED, Clock(60.0))
    batch, answers = subject.held_out[0], dict[str, tuple[Tensor, Tensor]]()

    def train(self: FreshCopies, name: str, change: Any = None, **_: Any) -> Trial:
        plain = self.condition()
        other = plain if name == "as it is" else change(self.condition())
        answers[name] = plain.loss(batch).detach(), other.loss(batch).detach()
        return trial(0.69 if name == "as it is" else changed)

    monkeypatch.setattr(FreshCopies, "train", train)
    copy = subject.copy()

    def run() -> Tensor:
        return subject.loss(copy, batch)

    recording = record(copy, run, layer="layer", level=0)
    flow = gradient_flow(copy, run, layer="layer")
    return check_fed_and_read(copies, recording, flow, [loss] * 3, "here"), answers


class Viewed(Classifier):
    """Gets (batch, feature, time), and cuts it anew or swaps the axes."""

    def __init__(self, *, wrong: bool):
        super().__init__(nn.GRU(WIDTH, 5, batch_first=True))
        self.wrong = wrong

    def forward(self, x: Tensor) -> Tensor:
        rows = x.view(len(x), TIME, WIDTH) if self.wrong else x.transpose(1, 2)
        return super().forward(rows)


def spectra() -> list[Any]:
    return [(x.transpose(1, 2).contiguous(), y) for x, y in first_steps(6)]


@pytest.mark.parametrize("wrong", [True, False])
def test_rows_that_a_view_cuts_anew(monkeypatch, *, wrong: bool) -> None:
    found, losses = checked(Viewed(wrong=wrong), spectra(), monkeypatch)
    assert (found is not None) == wrong
    if found is not None:
        assert found.cause is Cause.TIME_BATCH_SWAPPED
        assert f"a tensor ({BATCH}, {WIDTH}, {TIME}) of the batch" in found.statement
        assert not torch.equal(*losses["the inputs transposed, not viewed"])


def test_the_change_transposes(monkeypatch) -> None:
    """The loss of the wrong program's copy is then that of the right one's, of equal weights."""
    batches = spectra()
    _, losses = checked(Viewed(wrong=True), batches, monkeypatch)
    copies = FreshCopies(
        Trainer(Subject(Viewed(wrong=False), batches, cross_entropy, 6.0), 0),
        "layer",
        NEED,
        Clock(60.0),
    )
    condition = copies.condition()
    right = condition.loss(copies.trainer.subject.held_out[0])
    assert torch.allclose(losses["the inputs transposed, not viewed"][1], right)


def test_a_view_that_costs_nothing(monkeypatch) -> None:
    model = Viewed(wrong=True)
    assert checked(model, spectra(), monkeypatch, changed=0.65)[0] is None
    assert checked(model, spectra(), monkeypatch, loss=0.12)[0] is None


class ReadAt(Classifier):
    """Read at one step of all."""

    def __init__(self, step: int):
        super().__init__(nn.LSTM(WIDTH, 5, batch_first=True))
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, self.step])


@pytest.mark.parametrize("step", [3, TIME - 2, TIME - 1])
def test_one_step_that_is_read_early(step: int, monkeypatch) -> None:
    found, _ = checked(ReadAt(step), first_steps(6), monkeypatch)
    assert (found is not None) == (step < TIME - 1)
    if found is not None:
        assert found.cause is Cause.WRONG_STEP
        assert f"after {step + 1} of {TIME} steps" in found.statement
    assert checked(ReadAt(step), first_steps(6), monkeypatch, changed=0.65)[0] is None


def test_lengths_that_the_batch_holds(monkeypatch) -> None:
    """A sequence that is read at its own end is not read early."""

    class AtItsEnd(Classifier):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.head(self.layer(x)[0][torch.arange(len(x)), lengths - 1])

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(*batch[:2]), batch[2])

    lengths = 3 + torch.arange(BATCH) % (TIME - 2)
    inside = (torch.arange(TIME) < lengths[:, None])[..., None]
    batches = [(x * inside, lengths, y) for x, y in first_steps(6)]
    model = AtItsEnd(nn.LSTM(WIDTH, 5, batch_first=True))
    assert checked(model, batches, monkeypatch, of=loss)[0] is None


class Numbers(Classifier):
    """Reads ids as numbers."""

    def __init__(self) -> None:
        super().__init__(nn.GRU(1, 5, batch_first=True))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[..., None].float())


@pytest.mark.parametrize("kinds", [500, 4])
def test_ids_as_numbers(kinds: int, monkeypatch) -> None:
    """A few small numbers may be counts."""
    batches = [(torch.randint(kinds, (BATCH, TIME)), torch.randint(2, (BATCH,))) for _ in range(6)]
    found, _ = checked(Numbers(), batches, monkeypatch)
    assert (found is not None) == (kinds == 500)
    if found is not None:
        assert found.cause is Cause.UNSCALED
        assert "Ids are fed as numbers" in found.statement
    assert checked(Numbers(), batches, monkeypatch, loss=0.12)[0] is None


def test_shape_of_a_view() -> None:
    subject = Subject(Viewed(wrong=True), spectra(), cross_entropy, 6.0)
    model = subject.copy()
    recording = record(
        model, lambda: subject.loss(model, subject.held_out[0]), layer="layer", level=0
    )
    assert viewed_shape(subject, recording) == (BATCH, WIDTH, TIME)
