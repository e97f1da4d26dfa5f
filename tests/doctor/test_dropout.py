"""Dropout that keeps a copy from learning: of a large share, or at every step."""

import math
from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, Classifier, cross_entropy, first_steps
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.doctor import Cause
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.dropout import Dropouts, check_dropout, strong_dropout
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, Subject

NEED = Need([0.7, 0.7, 0.7], [0.7] * 3, [0.1] * 3, 3, None, True, {}, learned=True)


def trial(loss: float) -> Trial:
    return Trial([0.7, 0.71, 0.69], [loss, 1.01 * loss, 0.99 * loss], 500, diverged=False)


def copies_of(model: nn.Module) -> FreshCopies:
    subject = Subject(model, first_steps(8), cross_entropy, 6.0)
    return FreshCopies(Trainer(subject, 0), "layer", NEED, Clock(60.0))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Trial]:
    """Results of copies by the name of the change; what is not planted does not learn."""
    results: dict[str, Trial] = {}

    def train(self: FreshCopies, name: str, *arguments: Any, **options: Any) -> Trial:
        del self, arguments, options
        return results.get(name, trial(0.69))

    monkeypatch.setattr(FreshCopies, "train", train)
    return results


class Dropping(Classifier):
    """Drops by functions and by modules."""

    def __init__(self, inside: float, module: float, function: float):
        layer = nn.LSTM(WIDTH, 5, num_layers=2, batch_first=True, dropout=inside)
        super().__init__(layer)
        self.drop, self.share, self.always = nn.Dropout(module), function, False

    def forward(self, x: Tensor) -> Tensor:
        """Classes."""
        outputs, _ = self.layer(x)
        last = self.drop(outputs[:, -1])
        return self.head(F.dropout(last, self.share, training=self.training or self.always))


@pytest.mark.parametrize(
    ("shares", "places"),
    [
        ((0.9, 0.0, 0.0), {"layer (LSTM)": 0.9}),
        ((0.0, 0.8, 0.0), {"drop (Dropout)": 0.8}),
        ((0.0, 0.0, 0.7), {"F.dropout in forward": 0.7}),
        ((0.5, 0.5, 0.5), {}),
    ],
)
def test_strong_dropout_is_found_and_bounded(shares: Any, places: Any, planted) -> None:
    model = Dropping(*shares)
    copies = copies_of(model)
    suspects = strong_dropout(copies.trainer.subject, 5)
    assert (suspects.places if suspects else {}) == places
    planted["little dropout"] = trial(0.1)
    found = check_dropout(copies, [0.69] * 3, 5, "here")
    assert (found is not None) == bool(places)
    assert check_dropout(copies, [0.15] * 3, 5, "here") is None  # it has learned all the same
    if found is not None:
        assert found.cause is Cause.DROPOUT
        assert next(iter(places)) in found.statement


@pytest.mark.parametrize("always", [False, True])
def test_dropout_in_spite_of_which_the_model_gained_half(*, always: bool, planted) -> None:
    """It took more updates than a copy's; but where evaluation drops too, more is to gain."""
    planted["little dropout"] = trial(0.1)
    model = Dropping(0.0, 0.0, 0.7)
    model.always = always
    assert (check_dropout(copies_of(model), [0.35] * 3, 5, "here") is not None) == always


def test_strong_dropout_in_spite_of_which_a_copy_learns(planted) -> None:
    planted |= {"as it is": trial(0.3), "little dropout": trial(0.2)}
    assert check_dropout(copies_of(Dropping(0.8, 0.0, 0.0)), [0.69] * 3, 5, "here") is None


class DroppingEachStep(nn.Module):
    """Drops a share of the state that goes to the next step, by a module or by a function."""

    def __init__(self, share: float, *, function: bool):
        super().__init__()
        self.layer, self.head = nn.GRUCell(WIDTH, 5), nn.Linear(5, 2)
        self.drop, self.share = nn.Dropout(0.0 if function else share), share if function else 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Classes."""
        state = x.new_zeros(len(x), 5)
        for step in x.unbind(1):
            state = F.dropout(self.drop(self.layer(step, state)), self.share)
        return self.head(state)


@pytest.mark.parametrize("function", [False, True])
@pytest.mark.parametrize(("share", "steps"), [(0.4, 8), (0.4, 3), (0.02, 8), (0.4, 200)])
def test_dropout_that_adds_up_over_the_steps(
    share: float, steps: int, *, function: bool, planted
) -> None:
    """Of 0.6^8, 1.7 % is left, and of 0.6^3 and 0.98^8 most; 200 steps are more than there are."""
    planted["little dropout"] = trial(0.1)
    copies = copies_of(DroppingEachStep(share, function=function))
    found = check_dropout(copies, [0.69] * 3, steps, "here")
    assert (found is not None) == ((share, steps) == (0.4, 8))
    if found is not None:
        assert found.cause is Cause.DROPOUT
        assert "1.7 %" in found.statement
        assert ("F.dropout" if function else "drop (Dropout)") in found.statement
        assert copies.remedies[0].name == "a dropout of 0"


def test_a_bound_on_dropout_drops_that_share() -> None:
    torch.manual_seed(0)
    with Dropouts(0.1) as bounded:
        share = float((F.dropout(torch.ones(100_000), 0.9) == 0).double().mean())
        kept = nn.Dropout(0.9).eval()(torch.ones(10))
        direct = float((torch.dropout(torch.ones(100_000), 0.9, True) == 0).double().mean())
    assert share == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / 100_000))
    assert direct == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / 100_000))
    assert kept.sum() == 10
    assert bounded.shares == [0.9, 0.9]
