"""Diagnose the programs of the field cases, and count how many verdicts point at the fault.

`python -m benchmarks.doctor.field_run` trains and diagnoses both programs of every case, in several
processes. Results are kept under build/doctor, so that a run which was stopped goes on.
"""

import argparse
import collections
import datetime
import importlib
import json
import math
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import hardware
from benchmarks.doctor.checking import CACHE
from benchmarks.doctor.field_case import Case
from throughtime.results.atomic import read_json, write_json

SCHEMA_VERSION = 1
KINDS = ("right", "partly", "inconclusive", "wrong", "raised")


def judge(case: Case, verdict: str | None) -> str:
    """Return the kind of a verdict, one of KINDS; a healthy program has no partly right one.

    Arguments:
        case: The program that was diagnosed.
        verdict: The verdict; None if diagnose raised.
    """
    if verdict is None:
        return "raised"
    if isinstance(case.accept, set):
        open_ = verdict == "inconclusive"
        return "right" if verdict in case.accept else "inconclusive" if open_ else "wrong"
    for kind in ("right", "partly"):
        if verdict in case.accept[kind]:
            return kind
    return "inconclusive" if verdict == "inconclusive" else "wrong"


def ask(folder: str, name: str, faulty: bool, budget: str, seed: int) -> dict[str, Any]:
    """Train one program as its user does, diagnose it, and return a row of the results."""
    import throughtime

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    module = importlib.import_module(f"benchmarks.doctor.{folder}.{name}")
    case: Case = module.make(faulty)
    case.fit(case.model)
    score = case.score(case.model)
    valid = case.poor_enough(score) if faulty else case.good_enough(score)
    verdict, sentence = None, ""
    start, used = time.monotonic(), time.process_time()
    try:
        options = case.options(case.model)
        diagnosis = throughtime.diagnose(
            case.model, case.batches, case.loss, budget=budget, **options
        )
        verdict, sentence = diagnosis.verdict.value, diagnosis.sentence
    except Exception as error:  # noqa: BLE001 what users would see
        sentence = f"{type(error).__name__}: {error}"
    return {
        "case": name,
        "program": "faulty" if faulty else "healthy",
        "score": score if math.isfinite(score) else None,
        "valid": valid,
        "accept": sorted(case.accept)
        if isinstance(case.accept, set)
        else {kind: sorted(names) for kind, names in case.accept.items()},
        "verdict": verdict,
        "kind": judge(case, verdict),
        "sentence": sentence,
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - used,
    }


def _kept(task: tuple[str, str, bool, str, int]) -> dict[str, Any]:
    folder, name, faulty, _, seed = task
    path = CACHE / folder / f"{name}-{'faulty' if faulty else 'healthy'}-{seed}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, ask(*task))
    return read_json(path)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return counts of kinds for the faulty and for the healthy programs."""
    counts = {
        program: collections.Counter(row["kind"] for row in rows if row["program"] == program)
        for program in ("faulty", "healthy")
    }
    return {program: {kind: of[kind] for kind in KINDS} for program, of in counts.items()} | {
        "programs": len(rows),
        "longest": max(row["seconds"] for row in rows),
    }


def main() -> None:
    """Run the cases of a folder and write benchmarks/results/doctor-FOLDER.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doctor.field_run")
    parser.add_argument("--folder", default="field", help="a package of field cases")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget", default="30s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/doctor-FOLDER.json")
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    names = asked.names or importlib.import_module(f"benchmarks.doctor.{asked.folder}").NAMES
    tasks = [
        (asked.folder, name, faulty, asked.budget, asked.seed)
        for name in names
        for faulty in (True, False)
    ]
    rows: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        for row in pool.imap(_kept, tasks):
            rows.append(row)
            note = "" if row["valid"] else "  (training did not turn out as expected)"
            print(
                f"{row['case']:34} {row['program']:8} {row['kind']:12} {row['verdict'] or '-':28} "
                f"{row['seconds']:5.1f} s{note}",
                flush=True,
            )
    counts = summary(rows)
    print(json.dumps(counts))
    if not asked.names:
        document = {
            "schema_version": SCHEMA_VERSION,
            "benchmark": f"doctor-{asked.folder}",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "hardware": hardware(),
            "budget": asked.budget,
            "load_average": os.getloadavg()[0],
            "summary": counts,
            "rows": rows,
        }
        path = asked.out or Path(__file__).parents[1] / "results" / f"doctor-{asked.folder}.json"
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
