"""What the verdicts amount to: confusion, recall, false alarms with their bound, time."""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

CAUSES = (
    "HEALTHY",
    "NO_LONG_DEPENDENCY",
    "TIME_BATCH_SWAPPED",
    "STATE_LEAK",
    "PADDING_READ",
    "GRADIENT_CUT",
    "VANISHING",
    "EXPLODING",
    "FORGETTING",
    "SATURATED",
    "DEAD_UNITS",
    "UNDERTRAINED",
)
UNDECIDED = "INCONCLUSIVE"


def upper_bound(successes: int, trials: int, confidence: float = 0.95) -> float:
    """The one-sided upper bound of a probability (Clopper and Pearson 1934).

    The p at which so few successes or fewer have the probability 1 - confidence, by bisection:

        sum over i <= successes of C(trials, i) p^i (1 - p)^(trials - i) = 1 - confidence
    """
    if successes >= trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if lower_tail(successes, trials, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def lower_tail(successes: int, trials: int, p: float) -> float:
    """The probability of so many successes or fewer."""
    if p in (0.0, 1.0):
        return float(p == 0.0 or successes >= trials)
    return math.fsum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(i + 1)
            - math.lgamma(trials - i + 1)
            + i * math.log(p)
            + (trials - i) * math.log1p(-p)
        )
        for i in range(successes + 1)
    )


@dataclasses.dataclass(frozen=True)
class Summary:
    """Of many verdicts.

    Attributes:
        cases: how many.
        confusion: planted cause -> verdict -> count.
        recall: of each cause, share of its cases with an acceptable verdict.
        exact: the same, with the planted cause itself as the verdict.
        inconclusive: share of all cases without a decision.
        accuracy_where_decided: share of acceptable verdicts among the others, errors included.
        faulty_recall: share of acceptable verdicts among the cases that are not HEALTHY.
        healthy: number of healthy cases.
        false_alarms: healthy cases with a verdict other than HEALTHY and INCONCLUSIVE.
        false_alarm_bound: one-sided 95 % upper bound of their probability.
        errors: cases at which the doctor raised.
        changed: cases whose model the doctor did not leave as it was.
        recall_told: recall over faulty cases by what the doctor was told.
        median_seconds, longest_seconds: of a diagnosis, by the clock.
    """

    cases: int
    confusion: dict[str, dict[str, int]]
    recall: dict[str, float]
    exact: dict[str, float]
    inconclusive: float
    accuracy_where_decided: float | None
    faulty_recall: float | None
    healthy: int
    false_alarms: int
    false_alarm_bound: float
    errors: int
    changed: int
    recall_told: dict[str, float]
    median_seconds: float
    longest_seconds: float


def summarise(verdicts: Sequence[dict[str, Any]]) -> Summary:
    """Count verdicts, of at least one case."""
    confusion: dict[str, Counter[str]] = {}
    for one in verdicts:
        confusion.setdefault(one["cause"], Counter())[one["verdict"]] += 1
    by_cause = {c: [v for v in verdicts if v["cause"] == c] for c in CAUSES if c in confusion}
    decided = [v for v in verdicts if v["verdict"] != UNDECIDED]
    faulty = [v for v in verdicts if v["cause"] != "HEALTHY"]
    healthy = by_cause.get("HEALTHY", [])
    alarms = sum(v["verdict"] not in ("HEALTHY", UNDECIDED) for v in healthy)
    told: dict[str, list[dict[str, Any]]] = {}
    for one in faulty:
        told.setdefault(", ".join(one["told"]) or "nothing", []).append(one)
    seconds = [v["seconds"] for v in verdicts]
    return Summary(
        cases=len(verdicts),
        confusion={c: dict(confusion[c]) for c in by_cause},
        recall={c: _right(group) for c, group in by_cause.items()},
        exact={
            c: sum(v["verdict"] == c for v in group) / len(group) for c, group in by_cause.items()
        },
        inconclusive=1 - len(decided) / len(verdicts),
        accuracy_where_decided=_right(decided) if decided else None,
        faulty_recall=_right(faulty) if faulty else None,
        healthy=len(healthy),
        false_alarms=alarms,
        false_alarm_bound=upper_bound(alarms, len(healthy)),
        errors=sum(v["verdict"] == "ERROR" for v in verdicts),
        changed=sum(not v["unchanged"] for v in verdicts),
        recall_told={key: _right(group) for key, group in sorted(told.items())},
        median_seconds=statistics.median(seconds),
        longest_seconds=max(seconds),
    )


def _right(group: Sequence[dict[str, Any]]) -> float:
    return sum(v["right"] for v in group) / len(group)


def lines(summary: Summary) -> list[str]:
    """A summary as a person reads it."""
    # causes that are never planted have a column where they were a verdict
    others = {c for row in summary.confusion.values() for c in row} - {*CAUSES, UNDECIDED, "ERROR"}
    columns = [*CAUSES, *sorted(others), UNDECIDED, "ERROR"]
    text = ["planted             " + "".join(f"{_short(c):>7}" for c in columns) + "  recall"]
    for cause, row in summary.confusion.items():
        cells = "".join(f"{row.get(c, 0) or '.':>7}" for c in columns)
        text.append(f"{cause:20}{cells}  {summary.recall[cause]:6.1%}")
    accuracy = summary.accuracy_where_decided
    text += [
        f"cases {summary.cases}, inconclusive {summary.inconclusive:.1%}, "
        f"right where decided {'-' if accuracy is None else f'{accuracy:.1%}'}",
        f"recall of what is not healthy "
        f"{'-' if summary.faulty_recall is None else f'{summary.faulty_recall:.1%}'}",
        f"false alarms {summary.false_alarms} of {summary.healthy} healthy: "
        f"at most {summary.false_alarm_bound:.1%} (95 %, one-sided)",
        f"errors {summary.errors}, models changed {summary.changed}",
        "recall by what was told: "
        + "; ".join(f"{key} {value:.1%}" for key, value in summary.recall_told.items()),
        f"median {summary.median_seconds:.1f} s a case, longest {summary.longest_seconds:.1f} s",
    ]
    return text


def _short(cause: str) -> str:
    words = cause.lower().split("_")
    return words[0][:6] if len(words) == 1 else "".join(word[:2] for word in words)
