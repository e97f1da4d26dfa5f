"""Benchmarks by name."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: a candidate against its baseline, or one number.

    Attributes:
        case: what was run, with its sizes.
        candidate: what was measured.
        baseline: what it was measured against, round by round in the same process.
        ratio: baseline's time over candidate's, median of the rounds: above 1, the candidate is
            faster; or another number if `unit` says so.
        low, high: the quartiles of the rounds.
        unit: "x faster" or the unit of the number.
        milliseconds: median time of a candidate's round, where times were measured.
    """

    case: str
    candidate: str
    baseline: str
    ratio: float
    low: float
    high: float
    unit: str = "x faster"
    milliseconds: float | None = None


Benchmark = Callable[[int], list[Row]]

BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(name: str) -> Callable[[Benchmark], Benchmark]:
    """Decorator: enter a function of the number of rounds under a name."""

    def enter(function: Benchmark) -> Benchmark:
        BENCHMARKS[name] = function
        return function

    return enter
