"""Build the cases and ask the doctor, in several processes; every step is kept on disk."""

import dataclasses
import importlib
import math
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.doctor.cases import case_of
from benchmarks.doctor.checking import CACHE, Check, check
from benchmarks.doctor.planting import build
from benchmarks.doctor.selecting import queues, quotas
from throughtime.results.atomic import read_json, write_json


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run.

    Attributes:
        family: of cases.
        jobs: processes.
        budget: of a diagnosis, as the doctor takes it.
        limit: number of right cases; None for all.
        cause: only this one; None for all.
        doctor: "module:function" that diagnoses.
        fresh: whether to ask again where there is a verdict.
    """

    family: str
    jobs: int = 2
    budget: str = "30s"
    limit: int | None = None
    cause: str | None = None
    doctor: str = "throughtime:diagnose"
    fresh: bool = False


def select(settings: Settings, pool: Any) -> Iterator[tuple[str, Check]]:
    """Check cases, cause by cause, until each cause has as many right ones as are wanted."""
    waiting = queues(settings.family, settings.cause)
    wanted = quotas(waiting, settings.limit)
    while any(waiting[cause] and wanted.get(cause, 0) > 0 for cause in waiting):
        round_names = []
        for cause, queue in waiting.items():
            count = min(len(queue), wanted.get(cause, 0))
            round_names += [queue.pop(0).name for _ in range(int(count))]
        for name, result in pool.imap_unordered(_checked, round_names):
            if result.right:
                wanted[case_of(name).cause] -= 1
            yield name, result


def run_all(settings: Settings, tell: Callable[[str], None], *, ask: bool) -> list[str]:
    """Check the cases and, if `ask`, have each right one diagnosed; returns the right ones.

    What is on disk is not done again, so that a run which was stopped goes on.
    """
    context = multiprocessing.get_context("spawn")
    right, wrong = [], 0
    with context.Pool(settings.jobs, initializer=_one_thread) as pool:
        for name, result in select(settings, pool):
            if result.right:
                right.append(name)
            else:
                wrong += 1
            mark = "right" if result.right else f"dropped: {result.problem}"
            tell(f"{name}: loss {result.loss:.2f}, twin {result.twin:.2f}; {mark}")
        tell(f"{len(right)} right cases, {wrong} dropped")
        right.sort()
        if ask:
            todo = [(name, settings) for name in right]
            for done, (name, verdict) in enumerate(pool.imap_unordered(_asked, todo), 1):
                tell(f"{done}/{len(todo)} {name}: {verdict}")
    write_json(
        CACHE / f"selected-{settings.family}.json",
        {"names": right, "dropped": wrong, "settings": dataclasses.asdict(settings)},
    )
    return right


def _one_thread() -> None:
    torch.set_num_threads(1)


def _checked(name: str) -> tuple[str, Check]:
    return name, check(case_of(name))


def verdict_path(family: str, name: str):
    """The file of a case's verdict."""
    return CACHE / "verdicts" / family / f"{name.replace('/', '__')}.json"


def _asked(work: tuple[str, Settings]) -> tuple[str, str]:
    name, settings = work
    path = verdict_path(settings.family, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not settings.fresh:
        return name, read_json(path)["verdict"]
    document = ask(name, settings)
    write_json(path, document)
    return name, document["verdict"]


def ask(name: str, settings: Settings) -> dict[str, Any]:
    """Have one case diagnosed; an error of the doctor is the verdict "ERROR", which is never right.

    Returns:
        verdict, seconds by the clock, findings as text, the arguments that the doctor was told,
        and whether it left the model's parameters and buffers as they were.
    """
    module, _, function = settings.doctor.partition(":")
    diagnose = getattr(importlib.import_module(module), function)
    planted = build(name)
    before = {n: t.clone() for n, t in planted.model.state_dict().items()}
    started = time.perf_counter()
    findings, error, own_seconds = [], "", math.nan
    try:
        diagnosis = diagnose(
            planted.model,
            planted.batches,
            planted.loss_fn,
            budget=settings.budget,
            seed=0,
            **planted.options,
        )
        verdict = diagnosis.verdict.name
        findings = [str(finding)[:2000] for finding in diagnosis.findings]
        own_seconds = float(diagnosis.seconds)
    except Exception:  # noqa: BLE001 whatever the doctor raises counts against it, and is kept
        verdict, error = "ERROR", traceback.format_exc()
    after = planted.model.state_dict()
    same = all(torch.equal(t.nan_to_num(), after[n].nan_to_num()) for n, t in before.items())
    return {
        "name": name,
        "cause": planted.cause,
        "acceptable": sorted(planted.acceptable),
        "verdict": verdict,
        "right": verdict in planted.acceptable,
        "seconds": time.perf_counter() - started,
        "own_seconds": own_seconds if math.isfinite(own_seconds) else None,
        "told": sorted(planted.options),
        "budget": settings.budget,
        "unchanged": same,
        "findings": findings,
        "error": error,
    }
