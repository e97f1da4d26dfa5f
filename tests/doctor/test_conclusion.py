"""The headline and the advice, from remedies by hand."""

import pytest

from throughtime.doctor.conclusion import advised, leading
from throughtime.doctor.intervals import exactly
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
