"""Targets that nothing predicts, memorised ones, and rules that only the model has learned."""

import dataclasses

import pytest
import torch
from doctor.faulty_models import Classifier, cross_entropy, first_steps
from torch import nn

from throughtime.doctor import Cause, diagnose, examination, relearning
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.dependence import Dependence, Part
from throughtime.doctor.dependence_findings import (
    RULE,
    could_be_memorised,
    no_dependence_finding,
    open_finding,
    wrong_step_finding,
)
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.intervals import exactly
from throughtime.doctor.known_lag import KnownLag
from throughtime.doctor.mechanism import Mechanism
from throughtime.doctor.need import Need
from throughtime.doctor.options import Options
from throughtime.doctor.relearning import relearned_share
from throughtime.doctor.sample_axes import sample_axes
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.verdict import is_effective, mechanism_findings
from throughtime.results.diagnosis import Remedy


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


NOTHING = Need([0.69] * 3, [0.69] * 3, [0.70] * 3, 3, None, None, {}, learned=False)


def noise(count: int = 16, batch: int = 10):
    """Inputs, and classes that have nothing to do with them."""
    return [(torch.randn(batch, 12, 3), torch.randint(2, (batch,))) for _ in range(count)]


def fit(model, batches, updates: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for k in range(updates):
        optimizer.zero_grad()
        cross_entropy(model, batches[k % len(batches)]).backward()
        optimizer.step()


def classifier(units: int = 24) -> Classifier:
    return Classifier(nn.GRU(3, units, batch_first=True))


def known(dependence: Dependence | None, given: int | None = None) -> KnownLag:
    subject = Subject(classifier(), first_steps(2), cross_entropy, 1.0)
    lag = KnownLag(subject, "layer", given, 0)
    lag.dependence = dependence
    return lag


def test_nothing_is_unpredicted_that_the_data_a_predictor_or_the_user_show() -> None:
    nothing, something = Dependence((), 100), Dependence((Part(9, 9, 0.5),), 100)
    assert known(nothing).unpredicted(NOTHING)
    assert not known(something).unpredicted(NOTHING)
    assert not known(None).unpredicted(NOTHING)  # it could not be sought
    assert not known(nothing, 5).unpredicted(NOTHING)
    assert not known(nothing).unpredicted(dataclasses.replace(NOTHING, learned=True))


def test_the_lag_is_given_or_found_or_measured_and_never_a_default() -> None:
    found = Dependence((Part(9, 9, 0.81),), 100)
    lag = known(found)
    lag.settle(NOTHING)
    assert lag.value == 9
    assert lag.words == "lag 9, found in the data (correlation 0.9)"
    lag = known(found, 4)
    lag.settle(NOTHING)
    assert (lag.value, lag.words) == (4, "lag 4, given")
    lag = known(None)
    lag.settle(dataclasses.replace(NOTHING, lag=6, long=True))
    assert (lag.value, lag.words) == (6, "lag 6 or more, by the predictors")
    lag = known(Dependence((), 100))
    lag.settle(NOTHING)
    assert (lag.value, lag.words) == (None, "")


def test_where_predictors_leave_it_open_the_data_show_the_need_of_a_good_model() -> None:
    lag = known(Dependence((Part(9, 9, 0.81),), 100))
    lag.settle(NOTHING)
    assert lag.with_need(NOTHING, [0.1] * 3).long
    assert lag.with_need(NOTHING, [0.69] * 3).long is None  # it is no better
    short = dataclasses.replace(NOTHING, long=False)
    assert lag.with_need(short, [0.1] * 3).long is False  # measured
    assert known(Dependence((), 100)).with_need(NOTHING, [0.1] * 3).long is None


def layer_of(**changed) -> Mechanism:
    values = {
        "lag": 9,
        "arriving": exactly(-12.0),
        "growth": exactly(0.0),
        "by_lag": (1.0,),
        "retention": None,
        "keeping": None,
        "dead": exactly(0.0),
        "saturated": exactly(0.0),
        "units": 5,
        "activity": None,
    }
    return Mechanism(**{**values, **changed})


@pytest.mark.usefixtures("unchecked")
def test_faults_over_a_lag_are_named_with_its_origin_or_not_at_all() -> None:
    suspects = mechanism_findings(layer_of(saturated=exactly(0.9)), None, "here")
    lag = known(Dependence((Part(9, 9, 0.81),), 100))
    lag.settle(NOTHING)
    saturated, vanishing = lag.about(suspects, NOTHING)
    assert saturated == suspects[0]
    assert vanishing.statement.endswith(" Lag 9, found in the data (correlation 0.9).")
    nothing = known(Dependence((), 100))
    nothing.settle(NOTHING)
    assert nothing.about(suspects, NOTHING) == suspects[:1]
    assert known(None, 9).about(suspects, NOTHING) == suspects


@pytest.mark.usefixtures("unchecked")
def test_a_fault_of_memory_is_tried_where_a_lag_is_known() -> None:
    lag = known(Dependence((Part(9, 9, 0.81),), 100))
    lag.settle(NOTHING)
    assert lag.memory_cause(layer_of(), NOTHING) is Cause.VANISHING
    assert lag.memory_cause(layer_of(retention=exactly(0.01)), NOTHING) is Cause.FORGETTING
    assert lag.memory_cause(layer_of(), dataclasses.replace(NOTHING, long=False)) is None
    assert known(Dependence((), 100)).memory_cause(layer_of(), NOTHING) is None


@pytest.mark.usefixtures("unchecked")
def test_a_gradient_of_nothing_is_the_likeliest_cause_after_long_training() -> None:
    lag = known(Dependence((Part(9, 9, 0.81),), 100))
    lag.settle(NOTHING)
    (suspect,) = mechanism_findings(layer_of(), None, "here")
    need = dataclasses.replace(NOTHING, long=True, lag=9)
    long, short = (Trial([0.7], [0.7], updates, diverged=False) for updates in (400, 40))
    assert lag.vanishes(suspect, layer_of(), need, long)
    assert not lag.vanishes(suspect, layer_of(), need, short)
    assert not lag.vanishes(suspect, layer_of(), NOTHING, long)
    assert not lag.vanishes(suspect, layer_of(arriving=exactly(-4.0)), need, long)


def test_more_answers_than_the_parameters_can_hold_are_not_memorised() -> None:
    low = [0.0, 0.0, 0.0]
    # 0.69 nats are 1 bit an answer; 5 bits a parameter are the most
    assert could_be_memorised(NOTHING, low, 5000, 1000)
    assert not could_be_memorised(NOTHING, low, 5100, 1000)


def test_words_say_that_nothing_was_found_not_that_nothing_is_there() -> None:
    trial = Trial([0.7], [0.7], 50, diverged=False)
    finding = no_dependence_finding(NOTHING, [0.7] * 3, trial, None, 100, "here")
    assert (finding.severity, finding.certainty) == ("fault", "measured")
    assert "no dependence of the targets on the inputs by lag was found in 100 sequences" in (
        finding.statement
    )
    assert "Check the labels" in finding.remedy
    finding = no_dependence_finding(NOTHING, [0.1] * 3, None, None, 100, "here")
    assert (finding.severity, finding.certainty) == ("warning", "suspected")
    assert finding.remedy.startswith("Pass unseen=")
    finding = no_dependence_finding(NOTHING, [0.1] * 3, None, exactly(0.2), 100, "here")
    assert finding.certainty == "measured"
    assert "regained 20 % of its gain" in finding.statement


def test_the_step_that_should_be_read_is_named() -> None:
    finding = wrong_step_finding(0, Part(5, 5, 0.81), 20, "here")
    assert finding.cause is Cause.WRONG_STEP
    assert "is read at step 1 of 20. The targets depend on step 15 (correlation 0.9)" in (
        finding.statement
    )


def test_what_is_known_is_printed_where_no_cause_is_clear() -> None:
    finding = open_finding(NOTHING, [0.6] * 3, "lag 9, given", "", ["a longer budget"], "here")
    assert (
        "loss is 0.6. Without inputs it is 0.69; predictors have 0.69 from the last 3 inputs"
        in (finding.statement)
    )
    assert finding.statement.endswith("Known: lag 9, given.")
    assert finding.remedy == "To settle it: a longer budget."


def test_a_change_is_effective_without_a_reference_if_a_copy_is_far_better_than_no_input() -> None:
    def remedy(before: float, after: float) -> Remedy:
        values = (exactly(before), exactly(after), 50)
        return Remedy("it", "", "trained", "held-out loss", *values, helped=True)

    assert is_effective(NOTHING, remedy(0.69, 0.1))
    assert not is_effective(NOTHING, remedy(0.69, 0.66))
    assert not is_effective(NOTHING, remedy(0.2, 0.1))


def test_classes_by_coin_are_never_forgotten() -> None:
    diagnosis = diagnose(classifier(), noise(), cross_entropy, budget="2s", remedies=False)
    assert diagnosis.verdict is Cause.NO_DEPENDENCE
    assert {finding.cause for finding in diagnosis.findings} == {Cause.NO_DEPENDENCE}


def test_memorised_classes_are_not_healthy() -> None:
    batches = noise(8)
    model = classifier()
    fit(model, batches, 240)
    diagnosis = diagnose(model, batches, cross_entropy, budget="3s", remedies=False)
    assert diagnosis.verdict is Cause.NO_DEPENDENCE
    assert "may have memorised" in diagnosis.sentence
    assert any(ask.startswith("unseen=") for ask in diagnosis.missing_evidence)
    diagnosis = diagnose(
        model, batches, cross_entropy, budget="3s", remedies=False, unseen=noise(6)
    )
    assert diagnosis.verdict is Cause.NO_DEPENDENCE
    assert "Neither the model nor the reference predictors" in diagnosis.sentence


def test_a_real_dependence_stays_healthy_on_the_batches_of_the_training() -> None:
    batches = first_steps(24, 20)
    model = classifier(8)
    fit(model, batches, 240)
    diagnosis = diagnose(model, batches, cross_entropy, budget="2s", remedies=False)
    assert diagnosis.verdict is Cause.HEALTHY
    assert "from 11 steps back" in diagnosis.sentence


def test_a_rule_comes_back_entirely_and_memorised_answers_do_not() -> None:
    """The rule is the product of two early signs, which shows no dependence by lag."""
    batches = []
    for _ in range(24):
        x = torch.randint(2, (20, 6, 3)) * 2.0 - 1
        batches.append((x, (x[:, 1, 0] * x[:, 3, 1] > 0).long()))
    model = classifier()
    fit(model, batches, 500)
    subject = Subject(model, batches, cross_entropy, 1.0)
    assert max(subject.held_out_losses(subject.copy())) < 0.1
    constant = [0.693] * len(subject.held_out)
    axes = sample_axes(batches)
    share = relearned_share(subject, "layer", axes, constant, 60.0, 0)
    assert share is not None
    assert share.value > RULE

    batches = noise(12, 20)
    model = classifier()
    fit(model, batches, 500)
    subject = Subject(model, batches, cross_entropy, 1.0)
    assert max(subject.held_out_losses(subject.copy())) < 0.2
    constant = [0.693] * len(subject.held_out)
    share = relearned_share(subject, "layer", sample_axes(batches), constant, 60.0, 0)
    assert share is not None
    assert share.value < RULE


@pytest.mark.parametrize(("fresh", "memorised"), [(0.1, False), (0.69, True)])
def test_what_a_fresh_copy_learns_is_not_memorised(
    fresh: float, memorised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the predictors learn nothing, and little comes back after wrong targets."""
    monkeypatch.setattr(relearning, "relearned_share", lambda *_: exactly(0.2))
    trial = Trial([0.7] * 3, [fresh] * 3, 500, diverged=False)
    monkeypatch.setattr(FreshCopies, "plain", lambda _: trial)
    subject, clock = Subject(classifier(), noise(), cross_entropy, 1.0), Clock(60.0)
    one = examination.Examination(subject, "layer", clock, Options(None, None, None, None, True, 0))
    one.copies = FreshCopies(one.trainer, "layer", NOTHING, clock)
    one.losses = [0.05] * 3
    assert one._memorised(torch.ones(12, 10) > 0) is memorised


@pytest.mark.parametrize(("fresh", "memorised"), [(0.66, False), (0.689, True)])
def test_a_small_gain_counts_only_where_a_fresh_copy_has_it_too(
    fresh: float, memorised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is lost in the noise of what comes back after wrong targets."""
    trial = Trial([0.7] * 3, [fresh] * 3, 500, diverged=False)
    monkeypatch.setattr(FreshCopies, "plain", lambda _: trial)
    subject, clock = Subject(classifier(), noise(), cross_entropy, 1.0), Clock(60.0)
    one = examination.Examination(subject, "layer", clock, Options(None, None, None, None, True, 0))
    one.copies = FreshCopies(one.trainer, "layer", NOTHING, clock)
    one.losses = [0.65] * 3
    assert one._memorised(torch.ones(12, 10) > 0) is memorised
