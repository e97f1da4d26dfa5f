"""A study of the literature that was run: the paper's numbers beside ours."""

import dataclasses

from throughtime.results.comparison import Spread
from throughtime.results.record import Record


@dataclasses.dataclass(frozen=True)
class Measured:
    """One row of the table.

    Attributes:
        label: Name of the model in the paper.
        model: Spec of the model that was run.
        paper: The paper's number, or None.
        expected: Expected range of our number, or None.
        ours: Our number over seeds; None where every run diverged.
        diverged: Number of runs that diverged.
        seconds: Duration of all runs of the row.
    """

    label: str
    model: str
    paper: float | None
    expected: tuple[float, float] | None
    ours: Spread | None
    diverged: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Checked:
    """A claim of the paper as a condition on the means of rows, and the judgement of it.

    Attributes:
        statement: The claim in words.
        kind: "difference", "ratio", "order", "below" or "above", as in `studies.literature`.
        of: Labels of the rows.
        value: The difference, the ratio, the least rise or the mean; None where a mean is missing.
        bound: The least required value; for "below" the largest.
        holds: If True, the value meets the bound.
        quantity: Quantity of the rows, if it is not that of the table.
    """

    statement: str
    kind: str
    of: tuple[str, ...]
    value: float | None
    bound: float
    holds: bool
    quantity: str = ""


@dataclasses.dataclass(frozen=True)
class Reproduction(Record):
    """A study that was run.

    Attributes:
        name, title, source, effect, differs, quantity: Texts of the study.
        scale: Scale of the runs.
        rows: Rows of the table.
        checks: The claims, judged.
        seeds: Number of runs of each model.
        seconds: Duration of all runs together.
        commit: Commit of the source, or the version where there is none.
        device: Device of the runs.
    """

    derived = ("reproduced",)

    name: str
    title: str
    source: str
    effect: str
    differs: str
    quantity: str
    scale: str
    rows: tuple[Measured, ...]
    checks: tuple[Checked, ...]
    seeds: int
    seconds: float
    commit: str
    device: str

    @property
    def reproduced(self) -> bool:
        """If True, every claim holds."""
        return all(check.holds for check in self.checks)

    @property
    def verdict(self) -> str:
        """The number of claims that hold, as a sentence."""
        held, n = sum(check.holds for check in self.checks), len(self.checks)
        if n == 1:
            return f"The claim {'holds' if held else 'does not hold'} in these runs."
        if n == 2 and held != 1:
            return f"{'Both claims hold' if held else 'Neither claim holds'} in these runs."
        if held in (0, n):
            return f"{'All' if held else 'None'} of the {n} claims hold in these runs."
        return f"{held} of the {n} claims {_hold(held)} in these runs."


def _hold(n: int) -> str:
    return "holds" if n == 1 else "hold"
