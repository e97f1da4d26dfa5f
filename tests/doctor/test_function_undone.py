"""Losses of logits whose answers went through a function before."""

import pytest
import torch
from doctor.faulty_models import WIDTH, Classifier, cross_entropy, first_steps
from torch import Tensor, nn

from throughtime.doctor.answers import check_answers
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.function_undone import check_function
from throughtime.doctor.intervals import exactly
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.results.diagnosis import Cause, Finding

WARNING = Finding(
    cause=Cause.ANSWERS_UNFIT,
    severity="warning",
    certainty="proved",
    statement="It does not fit.",
    effect=exactly(0.5),
    effect_name="",
    threshold=0.1,
    measured_on="here",
    remedy="Take it away.",
)
NEED = Need([1.1] * 3, [1.0] * 3, [0.8] * 3, 3, None, True, {}, learned=True)


class Squashed(Classifier):
    """A classifier of three classes with a function before its loss."""

    def __init__(self, function: str):
        super().__init__(nn.GRU(WIDTH, 5, batch_first=True), 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return scores if not self.function else getattr(torch, self.function)(scores, **self.axis)

    @property
    def axis(self) -> dict[str, int]:
        return {"dim": 1} if self.function == "softmax" else {}


def checked(
    function: str, after: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[Finding | None, list[float]]:
    """The finding, and the losses of a copy as it is, without the function, and of its scores."""
    torch.manual_seed(0)
    subject = Subject(Squashed(function), first_steps(4), cross_entropy, 1.0)
    copies = FreshCopies(Trainer(subject, 0), "layer", NEED, Clock(60.0))
    losses: list[float] = []

    def train(self, name, change, **_) -> Trial:
        condition, batch = self.condition(), subject.held_out[0]
        losses.append(condition.loss(batch).item())
        losses.append(change(condition).loss(batch).item())
        condition.model.function = ""
        losses.append(condition.loss(batch).item())
        return Trial([1.1] * 3, [after] * 3, 50, diverged=False)

    monkeypatch.setattr(FreshCopies, "train", train)
    usual = Trial([1.1] * 3, [0.8] * 3, 50, diverged=False)
    monkeypatch.setattr(FreshCopies, "plain", lambda _: usual)
    return check_function(copies, [WARNING], [0.7] * 3, "here"), losses


@pytest.mark.parametrize("function", ["sigmoid", "softmax", "tanh"])
def test_a_copy_whose_loss_gets_the_scores_shows_what_the_function_costs(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, (squashed, undone, scores) = checked(function, 0.1, monkeypatch)
    assert undone == pytest.approx(scores, rel=1e-5)
    assert squashed != pytest.approx(scores, rel=1e-3)
    assert found is not None
    assert (found.cause, found.severity) == (Cause.ANSWERS_UNFIT, "fault")
    assert f"before the {function} reaches a held-out loss of 0.1" in found.statement
    assert found.remedy == WARNING.remedy


@pytest.mark.parametrize(("function", "after"), [("sigmoid", 0.6), ("", 0.1)])
def test_no_fault_without_a_clear_gain_or_a_function(
    function: str, after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checked(function, after, monkeypatch)[0] is None


class Labels(nn.Module):
    """Scores of four labels, as probabilities."""

    def __init__(self, function: str):
        super().__init__()
        self.layer, self.head = nn.GRU(WIDTH, 5, batch_first=True), nn.Linear(5, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        scores = self.head(self.layer(x)[0][:, -1])
        return scores.softmax(1) if self.function == "softmax" else scores.sigmoid()


@pytest.mark.parametrize(
    ("function", "most", "fault"),
    [("softmax", 3, True), ("softmax", 1, False), ("sigmoid", 3, False)],
)
def test_a_softmax_over_labels_of_which_several_are_true(
    function: str, most: int, fault: bool
) -> None:
    """With m of n labels true the least loss is m log m / n, at 1/m for each of them."""
    torch.manual_seed(0)
    batches = []
    for x, _ in first_steps(4):
        y = torch.zeros(len(x), 4)
        y[:, :most] = 1.0
        batches.append((x, y[:, torch.randperm(4)]))

    def loss(model: nn.Module, batch) -> Tensor:
        return nn.functional.binary_cross_entropy(model(batch[0]), batch[1])

    found = check_answers(Subject(Labels(function), batches, loss, 1.0))
    assert (found is not None) == fault
    if found is not None:
        best, true = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
        least = nn.functional.binary_cross_entropy(best, true)
        without = nn.functional.binary_cross_entropy(torch.full((4,), 0.75), true)
        assert found.effect is not None
        assert found.effect.value == pytest.approx(float(least / without), rel=1e-5)
