"""The conclusion of a diagnosis: the remedy that worked, in numbers; advice that trials left."""

import dataclasses
from collections.abc import Sequence

from throughtime.doctor.changes import CHANGES, Change
from throughtime.reports.numbers import count, number
from throughtime.results.diagnosis import Cause, Finding, Remedy

_FIXES = 0.25  # of the loss without it: the most that a change leaves which fixes the fault
_EXPLAINED = (Cause.UNDERTRAINED, Cause.NO_DEPENDENCE, Cause.INCONCLUSIVE)  # advice is no change


def leading(cause: Cause, statement: str, remedies: Sequence[Remedy]) -> str:
    """Return the verdict's sentence: the remedy that worked best, then the cause.

    Arguments:
        cause: the verdict.
        statement: the cause in a sentence.
        remedies: all remedies, in any order.
    """
    worked = [r for r in _of(cause, remedies) if r.helped]
    if not worked:
        return statement
    # not the lowest loss: a change may be compared with a copy that another change has mended
    best = max(worked, key=lambda remedy: remedy.before.value - remedy.after.value)
    return f"{_helps(best)}. {statement}"


def advised(finding: Finding, remedies: Sequence[Remedy]) -> Finding:
    """Return a finding whose advice the trials do not refute.

    Advice about a proved fault names the line to change, and stays. Other advice gives way to the
    changes that helped, or to the list of those that did not.

    Arguments:
        remedies: all remedies, in any order.
    """
    tried = [r for r in _of(finding.cause, remedies) if _starts(r)]  # advice of others is exact
    tried = [] if finding.cause in _EXPLAINED else tried
    trained = [remedy for remedy in tried if remedy.how == "trained"]
    if not finding.remedy or not tried:
        return finding
    worked = sorted((r for r in trained if r.helped), key=lambda remedy: remedy.after.value)
    if not trained:
        advice = f"{finding.remedy} Not trained: the time went to other measurements."
    elif finding.certainty == "proved":
        failed = f"{finding.remedy} On a copy this alone did not clearly help in "
        advice = finding.remedy if worked else f"{failed}{_updates(trained)}."
    elif worked:
        advice = f"{_helps(worked[0])}.{' The code is below.' if worked[0].code else ''}"
    else:
        names = "; ".join(remedy.name for remedy in trained)
        advice = f"Trained for {_updates(trained)} without clear help: {names}."
    return dataclasses.replace(finding, remedy=advice)


def _of(cause: Cause, remedies: Sequence[Remedy]) -> list[Remedy]:
    """List the remedies against a cause; those that are no change of the table are of any."""
    return [r for r in remedies if all(cause in change.causes for change in _starts(r))]


def _starts(remedy: Remedy) -> list[Change]:
    """List the changes by whose name a remedy is called; none for one of another check."""
    return [c for c in CHANGES if remedy.name.startswith(c.name.partition("{lag}")[0])]


def _helps(remedy: Remedy) -> str:
    one = remedy.name.startswith(("a ", "an ", "the ", "one "))
    fixes = 0 <= remedy.after.value <= _FIXES * remedy.before.value
    verb = ("fix it" if fixes else "help") if not one else ("fixes it" if fixes else "helps")
    name = remedy.name[0].upper() + remedy.name[1:]
    before, after = number(remedy.before.value), number(remedy.after.value)
    return f"{name} {verb}: {remedy.quantity} {before} → {after}"


def _updates(trained: Sequence[Remedy]) -> str:
    fewest, most = (f(remedy.updates for remedy in trained) for f in (min, max))
    if fewest == most:
        return f"{count(most)} update{'' if most == 1 else 's'}"
    return f"{count(fewest)} to {count(most)} updates"
