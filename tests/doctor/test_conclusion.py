"""The headline and the advice, from remedies by hand."""

from types import SimpleNamespace

import pytest
from torch import nn

from throughtime.doctor.conclusion import advised, leading
from throughtime.doctor.dropout import less_dropout
from throughtime.doctor.intervals import exactly
from throughtime.doctor.written_code import carry_out
from throughtime.results.diagnosis import Cause, Certainty, Finding, Remedy

SKIP, ORTHOGONAL = "a skip connection over 90 steps", "orthogonal recurrent weights"
GRAPH = "the graph kept between the calls of the layer"


def remedy(name: str, before: float, after: float, *, helped: bool, **changed) -> Remedy:
    values = {"name": name, "code": "", "how": "trained", "quantity": "validation loss"}
    numbers = {"before": exactly(before), "after": exactly(after), "updates": 500}
    return Remedy(**{**values, **numbers, "helped": helped, **changed})


def finding(cause: Cause, certainty: Certainty = "measured") -> Finding:
    return Finding(cause, "fault", certainty, "It is so.", None, "", None, "here", "Do that.")


WORKED = remedy(SKIP, 3.48, 0.0312, helped=True, code="...")
LESS = remedy(ORTHOGONAL, 3.48, 2.0, helped=True)
FAILED = remedy(ORTHOGONAL, 3.48, 3.46, helped=False)


@pytest.mark.parametrize(
    ("remedies", "sentence"),
    [
        ([], "It is so."),
        ([FAILED], "It is so."),
        ([LESS, WORKED], f"A{SKIP[1:]} fixes it: validation loss 3.48 → 0.0312. It is so."),
        ([LESS], "Orthogonal recurrent weights help: validation loss 3.48 → 2. It is so."),
        ([remedy(GRAPH, 3.0, 0.1, helped=True)], "It is so."),  # against another cause
    ],
)
def test_the_sentence_begins_with_the_remedy_that_worked(remedies, sentence) -> None:
    assert leading(Cause.VANISHING, "It is so.", remedies) == sentence


def test_a_change_of_a_copy_that_is_mended_already_does_not_lead() -> None:
    more = remedy("more updates of the same kind", 0.69, 1e-5, helped=True)
    larger = remedy("a larger step", 1e-5, 1e-7, helped=True)
    sentence = leading(Cause.UNDERTRAINED, "It is so.", [larger, more])
    assert sentence.startswith("More updates of the same kind fix it")


def test_advice_is_what_the_trials_left() -> None:
    measured, proved = finding(Cause.VANISHING), finding(Cause.GRADIENT_CUT, "proved")
    assert advised(measured, []) == measured
    assert advised(measured, [FAILED, WORKED]).remedy == (
        "A skip connection over 90 steps fixes it: validation loss 3.48 → 0.0312. "
        "The code is below."
    )
    assert advised(measured, [FAILED]).remedy == (
        "Trained for 500 updates without clear help: orthogonal recurrent weights."
    )
    only_measured = remedy(ORTHOGONAL, -9.0, -1.0, helped=False, how="instruments", updates=0)
    assert advised(measured, [only_measured]).remedy.startswith("Do that. Not trained: ")
    assert advised(proved, [remedy(GRAPH, 3.0, 0.1, helped=True)]) == proved
    failed = advised(proved, [remedy(GRAPH, 3.0, 2.9, helped=False, updates=1)])
    assert failed.remedy == "Do that. On a copy this alone did not clearly help in 1 update."


def test_advice_of_other_checks_stays() -> None:
    """It names what to change, and the remedy leads the sentence."""
    unscaled = finding(Cause.UNSCALED)
    standardised = remedy("standardised inputs", 0.7, 0.001, helped=True)
    assert advised(unscaled, [standardised]) == unscaled
    sentence = leading(Cause.UNSCALED, "It is so.", [standardised])
    assert sentence == "Standardised inputs fix it: validation loss 0.7 → 0.001. It is so."


def test_code_for_less_dropout_names_the_places() -> None:
    model = nn.ModuleDict(
        {
            "lstm": nn.LSTM(3, 4, 2, dropout=0.9),
            "head": nn.Sequential(nn.Dropout(0.8), nn.Dropout(0.05)),
        }
    )
    code = less_dropout(model)
    assert code == "model.lstm.dropout = 0.1\nmodel.head[0].p = 0.1"
    carry_out(code, {"model": SimpleNamespace(**dict(model.named_children()))})
    assert [m.p for m in model["head"]] == [0.1, 0.05]  # pyright: ignore
    assert "F.dropout" in less_dropout(nn.Linear(2, 2))
