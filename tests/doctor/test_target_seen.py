"""Targets that are among the inputs that their answers see, and those that only look so."""

from typing import Any

import pytest
import torch
from doctor.faulty_models import BATCH, TIME
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.doctor.sample_axes import SampleAxes, layer_axes
from throughtime.doctor.subject import Subject
from throughtime.doctor.target_seen import check_target_seen
from throughtime.instruments import record
from throughtime.results.diagnosis import Cause, Finding

KINDS = 5


class Tagger(nn.Module):
    """Classes at every step, of tokens or of vectors."""

    def __init__(self, width: int = 0, classes: int = KINDS, *, both: bool = False, units: int = 6):
        super().__init__()
        self.embedding = nn.Linear(width, 4) if width else nn.Embedding(KINDS + 1, 4)
        self.memory = nn.GRU(4, units, batch_first=True, bidirectional=both)
        self.head = nn.Linear(units * (2 if both else 1), classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.memory(self.embedding(x))[0])


def tokens(length: int) -> list[Tensor]:
    return [torch.randint(KINDS, (BATCH, length)) for _ in range(6)]


def series(length: int, width: int) -> list[Tensor]:
    return [torch.randn(BATCH, length, width) for _ in range(6)]


def found(
    model: nn.Module, batches: list, loss: Any, layer: str = "memory", axes: int = 2
) -> Finding | None:
    return check_target_seen(
        Subject(model, batches, loss, 6.0), layer, SampleAxes((0,) * axes, BATCH, "given")
    )


def classes(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(*batch[:-1]).transpose(1, 2), batch[-1])


def squares(model: nn.Module, batch: Any) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def fault(wrong: Finding | None, *words: str) -> None:
    assert wrong is not None
    assert (wrong.cause, wrong.severity, wrong.certainty) == (
        Cause.TARGET_SEEN,
        "fault",
        "proved",
    )
    assert all(word in wrong.statement + wrong.remedy for word in words)


def test_tokens_that_were_not_shifted() -> None:
    fault(found(Tagger(), [(s, s.clone()) for s in tokens(TIME)], classes), "batch[0]", "t + 1")
    assert found(Tagger(), [(s[:, :-1], s[:, 1:]) for s in tokens(TIME)], classes) is None


@pytest.mark.parametrize("ahead", [1, 3])
def test_forecaster_that_runs_backwards_too(ahead: int) -> None:
    batches = [(s[:, :-ahead], s[:, ahead:]) for s in tokens(TIME)]
    fault(found(Tagger(both=True), batches, classes), f"t + {ahead}", "bidirectional=False")
    assert found(Tagger(), batches, classes) is None


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("both", [True, False])
def test_targets_that_the_loss_cuts_from_its_inputs(ahead: int, both: bool) -> None:
    """The batch is one tensor; its samples are those of the layer's batch."""

    def loss(model: nn.Module, text: Tensor) -> Tensor:
        answers = model(text)[:, :-ahead]
        return F.cross_entropy(answers.flatten(0, 1), text[:, ahead:].flatten())

    batches = [torch.randint(KINDS, (30, TIME)) for _ in range(4)]
    s = Subject(Tagger(both=both), batches, loss, 6.0)
    model = s.copy()
    axes = layer_axes(batches[0], record(model, lambda: s.loss(model, batches[0]), level=0))
    assert axes == SampleAxes((0,), 30, "the batch of the layer")
    wrong = check_target_seen(s, "memory", axes)
    if both:
        fault(wrong, f"the target at step t is batch at step t + {ahead}", "bidirectional=False")
    else:
        assert wrong is None


def test_targets_that_are_made_of_several_inputs() -> None:
    """A difference of neighbours, which the answer sees both of, is no copy."""

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return F.mse_loss(model(x)[:, 1:, 0], x[:, 1:, 0] * x[:, :-1, 0])

    s = Subject(Tagger(2, 1), [torch.randn(30, TIME, 2) for _ in range(4)], loss, 6.0)
    assert check_target_seen(s, "memory", SampleAxes((0,), 30, "given")) is None


def test_recall_is_a_task() -> None:
    """A token of some steps ago, in either direction; and the first of a sequence at its end."""
    batches = [(s[:, 2:], s[:, :-2]) for s in tokens(TIME)]
    assert found(Tagger(), batches, classes) is None
    assert found(Tagger(both=True), batches, classes) is None

    def last(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0])[:, -1], batch[1])

    assert found(Tagger(), [(s, s[:, 0]) for s in tokens(TIME)], last) is None
    fault(found(Tagger(), [(s, s[:, -1]) for s in tokens(TIME)], last), "a step earlier")


def test_past_targets_of_a_series_that_goes_on_are_shifted_to_the_wrong_side() -> None:
    """Each input depends on the one before: the next one was to be forecast."""

    def walks(length: int) -> list[Tensor]:
        return [torch.randint(2, (BATCH, length)).cumsum(1) % KINDS for _ in range(6)]

    wrong = found(Tagger(), [(w[:, 1:], w[:, :-1]) for w in walks(TIME)], classes)
    fault(wrong, "batch[1] at step t is batch[0] at step t - 1", "t + 1")
    rolled = [(w, w.roll(3, 1)) for w in walks(TIME)]
    fault(found(Tagger(), rolled, classes), "t - 3", "by -3")
    # a task of recall, over more than a step
    assert found(Tagger(), [(w[:, 3:], w[:, :-3]) for w in walks(TIME)], classes) is None
    assert found(Tagger(), [(w[:, :-1], w[:, 1:]) for w in walks(TIME)], classes) is None
    independent = [(s[:, 1:], s[:, :-1]) for s in tokens(TIME)]
    assert found(Tagger(), independent, classes) is None


@pytest.mark.parametrize("goes_on", [True, False])
def test_past_targets_that_the_loss_cuts_from_its_inputs(goes_on: bool) -> None:
    def loss(model: nn.Module, text: Tensor) -> Tensor:
        return F.cross_entropy(model(text)[:, 1:].flatten(0, 1), text[:, :-1].flatten())

    steps = [torch.randint(2 if goes_on else KINDS, (30, TIME)) for _ in range(4)]
    texts = [step.cumsum(1) % KINDS if goes_on else step for step in steps]
    s = Subject(Tagger(), texts, loss, 6.0)
    wrong = check_target_seen(s, "memory", SampleAxes((0,), 30, "given"))
    if goes_on:
        fault(wrong, "the target at step t is batch at step t - 1", "t + 1")
    else:
        assert wrong is None


def test_labels_that_have_nothing_of_the_inputs() -> None:
    rare = [(s, (torch.rand(s.shape) < 0.01).long()) for s in tokens(TIME)]
    assert found(Tagger(), rare, classes) is None


@pytest.mark.parametrize("scale", [1.0, -3.0])
def test_feature_that_is_the_target(scale: float) -> None:
    """Up to an affine map, which a linear read-out learns."""
    batches = [(s, scale * s[:, :, 1:2] + 2) for s in series(TIME, 3)]
    fault(found(Tagger(3, 1), batches, squares), "feature 1")
    shifted = [(s[:, :-1], scale * s[:, 1:, 1:2] + 2) for s in series(TIME, 3)]
    assert found(Tagger(3, 1), shifted, squares) is None
    noisy = [(x, y + 0.01 * torch.randn(y.shape)) for x, y in batches]
    assert found(Tagger(3, 1), noisy, squares) is None


def made(form: str, *, every: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Two features, a series and what is made of it; the target is the series' next value."""
    batches: list[tuple[Tensor, Tensor]] = []
    for whole in series(TIME + 8, 1):
        s = whole[..., 0]
        if form == "driven":
            for t in range(1, TIME + 8):
                s[:, t] = 0.5 * s[:, t - 1] + whole[:, t, 0]
        feature = {
            "centred": sum(s[:, 3 + k : 3 + k + TIME] for k in range(3)),
            "wide": sum(s[:, 2 + k : 2 + k + TIME] for k in range(5)),
            "trailing": sum(s[:, 2 + k : 2 + k + TIME] for k in range(3)),
            "driven": s[:, 5 : 5 + TIME] - 0.5 * s[:, 4 : 4 + TIME],
            "noise": torch.randn(BATCH, TIME),
        }[form]
        x = torch.stack([s[:, 4 : 4 + TIME], torch.as_tensor(feature)], -1)
        y = s[:, 5 : 5 + TIME, None] if every else s[:, 4 + TIME, None]
        batches.append((x, y))
    return batches


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("form", ["centred", "wide", "trailing", "driven", "noise"])
def test_feature_that_averages_later_values(form: str, *, every: bool) -> None:
    """Not one that averages earlier values, nor what drives the series, which may be an input."""
    tagger = Tagger(2, 1)
    model = tagger if every else Last(tagger)
    wrong = found(model, made(form, every=every), squares, "memory" if every else "tagger.memory")
    if form in ("centred", "wide"):
        fault(wrong, "feature 1 of batch[0]", "an average of feature 0")
    else:
        assert wrong is None


class Last(nn.Module):
    """The answer after the last step."""

    def __init__(self, tagger: nn.Module):
        super().__init__()
        self.tagger = tagger

    def forward(self, x: Tensor) -> Tensor:
        return self.tagger(x)[:, -1]


def test_narrow_layer_that_reconstructs_its_inputs_is_a_warning() -> None:
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = nn.GRU(4, 2, batch_first=True)
            self.head = nn.Linear(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.memory(x)[0])

    wrong = found(Narrow(), [(s, s.clone()) for s in series(TIME, 4)], squares)
    assert wrong is not None
    assert wrong.severity == "warning"


class Translator(nn.Module):
    """An encoder, and a decoder that gets the target of the step before; with attention or not."""

    def __init__(self, attention: bool):
        super().__init__()
        self.embedding = nn.Embedding(KINDS + 1, 4)
        self.encoder = nn.GRU(4, 6, batch_first=True)
        self.decoder = nn.GRU(4, 6, batch_first=True)
        self.head = nn.Linear(6, KINDS)
        self.attention = attention

    def forward(self, source: Tensor, given: Tensor) -> Tensor:
        keys, state = self.encoder(self.embedding(source))
        queries, _ = self.decoder(self.embedding(given), state)
        if self.attention:
            queries = queries + (queries @ keys.transpose(1, 2)).softmax(-1) @ keys
        return self.head(queries)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("layer", ["encoder", "decoder"])
def test_source_that_is_to_be_copied(attention: bool, layer: str) -> None:
    """The target is the source, and the decoder gets it a step later."""
    batches = []
    for s in tokens(TIME):
        given = torch.cat([torch.full((BATCH, 1), KINDS), s[:, :-1]], 1)
        batches.append((s, given, s.clone()))
    assert found(Translator(attention), batches, classes, layer, 3) is None
    seen = [(x, y.clone(), y) for x, _, y in batches]
    fault(found(Translator(attention=False), seen, classes, "decoder", 3), "batch[1]")
