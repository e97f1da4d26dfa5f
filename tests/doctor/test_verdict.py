"""From numbers to verdicts."""

import dataclasses

import pytest

from throughtime.doctor import Cause
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.intervals import estimate, exactly
from throughtime.doctor.mechanism import Mechanism
from throughtime.doctor.need import Need
from throughtime.doctor.verdict import (
    CONFIRMED_BY_REMEDIES,
    as_good_findings,
    is_effective,
    leaves_little,
    mechanism_findings,
    memory,
    without_floor,
)
from throughtime.results.diagnosis import Remedy


def mechanism(**changed) -> Mechanism:
    """Of a layer with nothing the matter with it."""
    values = {
        "lag": 20,
        "arriving": exactly(-0.5),
        "growth": exactly(0.0),
        "by_lag": (1.0,),
        "retention": exactly(0.5),
        "keeping": exactly(0.97),
        "dead": exactly(0.0),
        "saturated": exactly(0.1),
        "units": 10,
        "activity": None,
    }
    return Mechanism(**{**values, **changed})


def causes(**changed) -> list[Cause]:
    return [f.cause for f in mechanism_findings(mechanism(**changed), None, "here")]


@pytest.mark.usefixtures("unchecked")
def test_each_number_has_its_cause_and_the_most_specific_comes_first() -> None:
    assert causes() == []
    assert causes(arriving=exactly(-9.0)) == [Cause.VANISHING]
    assert causes(growth=exactly(2.0)) == [Cause.EXPLODING]
    assert causes(retention=exactly(1e-9), arriving=exactly(-9.0)) == [
        Cause.FORGETTING,
        Cause.VANISHING,
    ]
    assert causes(dead=exactly(0.9)) == [Cause.DEAD_UNITS]
    # at the end of its range a unit gives the same output to everything
    assert causes(dead=exactly(0.9), saturated=exactly(0.9)) == [Cause.SATURATED, Cause.DEAD_UNITS]
    # gates that keep are open at half of the steps where large weights saturate them, or closed
    forgets = {"saturated": exactly(0.9), "retention": exactly(1e-9)}
    assert causes(**forgets, keeping=exactly(0.5)) == [Cause.SATURATED, Cause.FORGETTING]
    assert causes(**forgets, keeping=exactly(0.02)) == [Cause.FORGETTING]
    wide = estimate([0.9, 0.1, 0.5, 0.9])
    assert causes(dead=wide) == []  # the interval is not clear of the threshold


def remedy(before: float, after: float, **changed) -> Remedy:
    values = {
        "name": "it",
        "code": "",
        "how": "trained",
        "quantity": "held-out loss",
        "before": exactly(before),
        "after": exactly(after),
        "updates": 5,
        "helped": True,
    }
    return Remedy(**{**values, **changed})


def test_a_cure_makes_a_copy_remember_that_did_not() -> None:
    need = Need([0.7], [0.7], [0.1], 5, 20, long=True, curve={}, learned=True)
    assert is_effective(need, remedy(0.7, 0.2))
    assert not is_effective(need, remedy(0.7, 0.6))  # a little is not enough
    assert not is_effective(need, remedy(0.2, 0.1))  # it did without
    assert not is_effective(need, remedy(0.7, 0.2, helped=False))
    assert not is_effective(need, remedy(0.7, 0.2, how="instruments"))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("kept", "words"), [(5e-4, "0.05 %"), (1e-40, "10^-40"), (0.0, "0 %")])
def test_small_parts_are_said_in_powers(kept: float, words: str) -> None:
    finding = mechanism_findings(mechanism(retention=exactly(kept)), None, "here")[0]
    assert f"keep longest keep {words} of their memory" in finding.statement


@pytest.mark.usefixtures("unchecked")
def test_where_the_loss_falls_below_0_obstacles_are_suspected_alone() -> None:
    suspects = mechanism_findings(
        mechanism(growth=exactly(2.0), saturated=exactly(0.9), dead=exactly(0.9)), None, "here"
    )
    need = Need([0.5], [-2.0], [-3.0], 3, None, None, {}, learned=False)
    found = without_floor(suspects, need, [0.4])
    assert [f.severity for f in found] == ["fault", "warning", "warning"]
    assert all(f.cause in CONFIRMED_BY_REMEDIES for f in found[1:])  # so that none is lost
    assert without_floor(suspects, dataclasses.replace(need, short=[0.5], full=[0.5]), [0.4]) == (
        suspects
    )


def test_a_model_that_had_learned_before_the_trial_is_not_undertrained() -> None:
    need = Need([0.7] * 3, [0.7] * 3, [0.1] * 3, 3, None, True, {}, learned=True)
    assert leaves_little(need, Trial([0.01] * 3, [0.0] * 3, 50, diverged=False))
    assert not leaves_little(need, Trial([0.3] * 3, [0.0] * 3, 50, diverged=False))
    # recent inputs alone are no memory: the rest is worth 0.3, of which 0.05 was gained
    short = Need([1.0] * 3, [0.3] * 3, [0.0] * 3, 3, 8, True, {}, learned=True)
    assert not leaves_little(short, Trial([0.25] * 3, [0.0] * 3, 50, diverged=False))


@pytest.mark.usefixtures("unchecked")
def test_obstacles_of_a_model_that_is_as_good_as_a_copy_are_notes() -> None:
    suspects = mechanism_findings(mechanism(saturated=exactly(0.9)), None, "here")
    need = Need([0.7] * 3, [0.7] * 3, [0.7] * 3, 3, None, None, {}, learned=False)
    good, *notes = as_good_findings(need, [0.1, 0.2, 0.3], suspects, "here")
    assert (good.cause, good.severity) == (Cause.HEALTHY, "note")
    assert "its loss is 0.2, without inputs it is 0.7" in good.statement
    assert good.effect is not None
    assert good.effect.value == pytest.approx(0.5)  # the mean of 0.7 less 0.1, 0.2 and 0.3
    assert [(f.cause, f.severity, f.certainty) for f in notes] == [
        (Cause.SATURATED, "note", "suspected")
    ]


def test_a_copy_confirms_an_obstacle_under_a_loss_below_0() -> None:
    """Half of the way from the loss without inputs to the best one, below 0 too."""
    need = Need([0.5], [0.5], [0.5], 3, None, None, {}, learned=False)
    assert is_effective(need, remedy(0.4, -1.0))
    assert not is_effective(need, remedy(-0.5, -1.0))  # it did without


@pytest.mark.parametrize(("loss", "known"), [(0.60, "no"), (0.45, "yes")])
def test_a_gain_too_small_for_the_predictors_is_no_memory_either(loss: float, known: str) -> None:
    need = Need([0.7] * 3, [0.61] * 3, [0.61] * 3, 3, None, False, {}, learned=True)
    found = memory(need, [loss - 0.001, loss, loss + 0.001], [0.68, 0.69, 0.7])
    assert found.known == known
