"""An even, deterministic choice of cases that are right."""

import hashlib
import math
from collections.abc import Iterable

from benchmarks.doctor.cases import Case, cases

HEALTHY_SHARE = 3 / 7
"""Of all cases: 150 healthy ones beside 200 others."""


def queues(family: str, cause: str | None) -> dict[str, list[Case]]:
    """The cases of each cause in a fixed order that mixes faults, tasks, networks and seeds.

    Ways of making a fault take turns, each in the order of a hash of the cases' names.
    """
    ways: dict[str, dict[str, list[Case]]] = {}
    for case in cases(family).values():
        if cause is None or case.cause == cause:
            way = case.fault.name if case.fault else case.healthy.task
            ways.setdefault(case.cause, {}).setdefault(way, []).append(case)
    return {name: list(_in_turns(groups.values())) for name, groups in ways.items()}


def _in_turns(groups: Iterable[list[Case]]) -> Iterable[Case]:
    waiting = [sorted(group, key=_place) for group in groups]
    while waiting:
        for group in waiting:
            yield group.pop(0)
        waiting = [group for group in waiting if group]


def _place(case: Case) -> str:
    return hashlib.sha256(case.name.encode()).hexdigest()


def quotas(causes: Iterable[str], limit: int | None) -> dict[str, float]:
    """How many right cases of each cause are wanted: infinite without a limit."""
    names = sorted(causes)
    if limit is None:
        return dict.fromkeys(names, math.inf)
    others = [name for name in names if name != "HEALTHY"]
    healthy = 0
    if "HEALTHY" in names:
        healthy = round(limit * HEALTHY_SHARE) if others else limit
    wanted: dict[str, float] = {"HEALTHY": healthy} if healthy else {}
    for index, name in enumerate(others):
        wanted[name] = (limit - healthy) // len(others) + (index < (limit - healthy) % len(others))
    return wanted
