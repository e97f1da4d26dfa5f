"""Interleaved timing: a busy neighbour slows both sides of a round alike."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping

from benchmarks.registry import Row


def compare(
    case: str, candidates: Mapping[str, Callable[[], object]], baseline: str, rounds: int
) -> list[Row]:
    """Time candidates in turn, round by round, and take ratios within each round.

    Arguments:
        case: what is run.
        candidates: by name; the baseline among them.
        baseline: its name.
        rounds: counted rounds, after two that are not.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 2):
        for name, run in candidates.items():
            gc.collect()
            start = time.perf_counter()
            run()
            if number >= 2:
                times[name].append(time.perf_counter() - start)
    rows = []
    for name, own in times.items():
        if name == baseline:
            continue
        ratios = [b / o for b, o in zip(times[baseline], own, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows.append(
            Row(case, name, baseline, middle, low, high, milliseconds=1e3 * statistics.median(own))
        )
    return rows
