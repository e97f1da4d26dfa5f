"""Forms of a training's record: of Keras, of Lightning, of a plain loop."""

import csv
import io
import math
import types

import numpy as np
import pytest
import torch

from throughtime import errors
from throughtime.doctor import Cause, Diagnosis, History
from throughtime.doctor.history import as_history

KERAS = {"loss": [0.7, 0.6], "val_loss": [0.8, 0.9], "accuracy": [0.5, 0.6]}
LIGHTNING = """\
epoch,step,train_loss_epoch,train_loss_step,val_loss,grad_2.0_norm_total
0,49,,0.7,,3.5
0,99,,0.6,,nan
0,99,,,0.8,
0,99,0.65,,,
"""


def rows() -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(LIGHTNING))]


def as_pandas() -> list[dict[str, float]]:
    return [{k: float(v) if v else math.nan for k, v in row.items()} for row in rows()]


@pytest.mark.parametrize(
    "given",
    [
        [0.7, 0.6],
        (0.7, 0.6),
        iter([0.7, 0.6]),
        torch.tensor([0.7, 0.6], dtype=torch.float64),
        [torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)],
        np.array([0.7, 0.6]),
        KERAS,
        types.SimpleNamespace(history=KERAS, params={}),
        {"train/loss": [0.7, 0.6], "val/loss": [0.1, 0.1]},
        {"losses": [0.7, 0.6]},
        [{"loss": 0.7}, {"loss": 0.6}],
        types.SimpleNamespace(columns=["loss"], to_dict=lambda how: [{"loss": 0.7}, {"loss": 0.6}]),
        History((0.7, 0.6)),
    ],
)
def test_the_losses_of_the_training(given) -> None:
    assert as_history(given).losses == (0.7, 0.6)


def test_rows_of_lightning() -> None:
    """The loss by step comes before that by epoch; an empty entry is none, a NaN is one."""
    found = as_history(rows())
    assert found.losses == (0.7, 0.6)
    assert found.gradient_norms[0] == 3.5
    assert math.isnan(found.gradient_norms[1])
    assert as_history(as_pandas()).losses == (0.7, 0.6)
    assert math.isnan(as_history([{"epoch": 0, "loss": math.nan}]).losses[0])
    assert as_history({"val_loss": [0.5]}).losses == (0.5,)  # there is no other


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({"accuracy": [1.0]}, "got columns accuracy, expected the losses of the training"),
        ("metrics.csv", "got str"),
        (3, "got int"),
        (([0.7, 0.6], [1.0, 1.0]), "got losses that are no numbers"),
        ([{"loss": "none"}], "got loss that are no numbers"),
    ],
)
def test_other_forms_are_refused_in_words(given, got: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=got):
        as_history(given)


def test_a_cause_prints_as_words() -> None:
    assert str(Cause.VANISHING) == f"{Cause.VANISHING}" == "vanishing gradient"


@pytest.mark.parametrize("cause", Cause)
def test_the_verdicts_that_are_no_fault(cause: Cause) -> None:
    diagnosis = Diagnosis(cause, "", (), (), (), (), (), 0.0, 1.0, "")
    good = cause in (Cause.HEALTHY, Cause.NO_LONG_DEPENDENCY, Cause.INCONCLUSIVE)
    assert diagnosis.faulty is not good
