"""Targets that depend on later inputs: misaligned ones, and forecasts, which are not."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.doctor import fresh_copies
from throughtime.doctor.data_pairs import Pairs
from throughtime.doctor.dependence import Dependence, Part
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.later_inputs import check_later, is_forecast, later_parts
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.sample_axes import SampleAxes
from throughtime.doctor.subject import Clock, Subject
from throughtime.results.diagnosis import Cause, Finding

WORDS, TAGS, TIME, BATCH = 10, 2, 8, 16
AXES = SampleAxes((0, 0), BATCH, "given")


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(fresh_copies, "UPDATES", 120)


def pairs(x: Tensor, y: Tensor, *, classes: bool) -> Pairs:
    """Of (sequences, time, ...)."""
    x, y = (part.reshape(*part.shape[:2], -1).transpose(0, 1).float() for part in (x, y))
    return Pairs(x, y, torch.arange(len(y)), classes)


def test_later_inputs_that_targets_depend_on_and_older_ones() -> None:
    x = torch.randn(100, 12, 1)
    for ahead in (1, 4):
        found = later_parts(pairs(x, x.roll(-ahead, 1).sign(), classes=False))
        assert found[0].start <= ahead <= found[0].end
    assert later_parts(pairs(x, x.roll(2, 1).sign()[:, 2:], classes=False)) == []
    assert later_parts(pairs(x, torch.randn(100, 12, 1), classes=False)) == []


def test_forecasts() -> None:
    x = torch.randn(50, 12, 2)
    later = x.roll(-1, 1)[:, :-1]
    seen = x[:, :-1]
    assert is_forecast(pairs(x, torch.cat([later, seen], 2), classes=False))
    assert is_forecast(pairs(x, -3 * later[..., 1:] + 1, classes=False))
    assert is_forecast(pairs(x, later[..., 0] > 0.5, classes=True))
    assert is_forecast(pairs(x, later[..., 0] > seen[..., 0], classes=True))
    assert is_forecast(pairs(x, (later - seen)[..., 1].abs() > 1, classes=True))
    assert is_forecast(pairs(x, x.roll(-3, 1)[:, :-3], classes=False))
    tokens = torch.randint(WORDS, (50, 12))
    assert is_forecast(pairs(tokens + 1, tokens[:, 1:], classes=True))
    assert is_forecast(pairs(F.one_hot(tokens, 12), tokens[:, 1:], classes=True))


def test_targets_that_are_no_forecasts() -> None:
    tokens = torch.randint(WORDS, (50, 12))
    table = torch.tensor([0, 2, 1, 2, 0, 1, 2, 0, 1, 1])
    assert not is_forecast(pairs(tokens, table[tokens[:, 1:]], classes=True))
    assert not is_forecast(pairs(F.one_hot(tokens, 12), table[tokens[:, 1:]], classes=True))
    x = torch.randn(50, 12, 1)
    assert not is_forecast(pairs(x, x[:, 1:] * x[:, :-1], classes=False))
    assert not is_forecast(pairs(x, x.cumsum(1), classes=False))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.memory = nn.GRU(8, 16, batch_first=True)
        self.head = nn.Linear(16, TAGS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.memory(self.embedding(x))[0])


def classes(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]).transpose(1, 2), batch[1])


def judged(
    batches: list[tuple[Tensor, Tensor]], loss: float = 0.69, seen: tuple[Part, ...] = ()
) -> Finding | None:
    subject = Subject(Tagger(), batches, classes, 6.0)
    none = [0.69] * len(subject.held_out)
    need = Need(none, none, none, 1, None, None, {}, learned=False)
    copies = FreshCopies(
        Trainer(subject, 0), "memory", need, Clock(1e3), lambda losses: max(losses) < 0.5
    )
    answered = torch.ones(TIME, BATCH, dtype=torch.bool)
    return check_later(copies, answered, AXES, Dependence(seen, 100), [loss] * len(none), "here")


def tagged(early: int) -> list[tuple[Tensor, Tensor]]:
    """Whether a word is one of the odd ones, so many steps before it is read."""
    words = torch.randint(WORDS, (16 * BATCH, TIME + early))
    tags = words % 2
    return list(zip(words[:, :TIME].split(BATCH), tags[:, early:].split(BATCH), strict=True))


def test_tags_that_are_due_before_their_words() -> None:
    wrong = judged(tagged(1))
    assert wrong is not None
    assert (wrong.cause, wrong.severity, wrong.certainty) == (
        Cause.WRONG_STEP,
        "fault",
        "measured",
    )
    assert "step t + 1 " in wrong.statement
    assert "outputs[:, 1:], targets[:, :-1]" in wrong.remedy
    assert judged(tagged(0)) is None
    assert judged(tagged(1), loss=0.3) is None  # it has what it needs
    assert judged(tagged(1), seen=(Part(2, 2, 0.5),)) is None  # older inputs count


def test_tags_that_a_following_word_decides() -> None:
    """Whether word 1 or word 0 comes next: no one step shows it, a second direction does."""
    words = torch.randint(2, WORDS, (32 * BATCH, TIME))
    words = torch.where(torch.rand(words.shape) < 0.1, words % 2, words)
    words[:, -1] %= 2
    steps = torch.arange(TIME)
    following = torch.where(words < 2, steps, TIME).flip(1).cummin(1).values.flip(1)
    tags = words.gather(1, following)
    wrong = judged(list(zip(words.split(BATCH), tags.split(BATCH), strict=True)))
    assert wrong is not None
    assert wrong.cause is Cause.WRONG_STEP
    assert "bidirectional=True" in wrong.remedy


def test_forecast_of_noise_is_no_wrong_step() -> None:
    words = torch.randint(TAGS, (12 * BATCH, TIME + 1))
    batches = zip(words[:, :-1].split(BATCH), words[:, 1:].split(BATCH), strict=True)
    assert judged(list(batches)) is None
