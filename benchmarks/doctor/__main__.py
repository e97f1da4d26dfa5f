"""Plant faults, ask `throughtime.diagnose`, and count how often it is right.

`build` trains and checks the cases, `run` also has them diagnosed, `matrix` prints what is there.
All of it is kept under build/doctor and goes on where it was stopped.
"""

import argparse
import dataclasses
import datetime
import json
import os
from pathlib import Path

import torch

from benchmarks.__main__ import hardware
from benchmarks.doctor.cases import FAMILIES
from benchmarks.doctor.checking import CACHE
from benchmarks.doctor.matrix import CAUSES, lines, summarise
from benchmarks.doctor.running import Settings, run_all, verdict_path
from throughtime.results.atomic import read_json
from throughtime.training import current_environment

SCHEMA_VERSION = 1


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doctor", description=__doc__)
    parser.add_argument("what", choices=("build", "run", "matrix"))
    parser.add_argument("--family", choices=FAMILIES, default="development")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget", default="30s", help="of a diagnosis")
    parser.add_argument("--limit", type=int, help="right cases, 3/7 of them healthy")
    parser.add_argument("--cause", choices=CAUSES)
    parser.add_argument("--doctor", default="throughtime:diagnose", help="module:function")
    parser.add_argument("--fresh", action="store_true", help="ask again where there is a verdict")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/doctor-FAMILY.json")
    options = parser.parse_args()
    fields = {field.name for field in dataclasses.fields(Settings)}
    settings = Settings(**{n: v for n, v in vars(options).items() if n in fields})
    if options.what != "matrix":
        right = run_all(settings, lambda line: print(line, flush=True), ask=options.what == "run")
        if options.what == "build":
            return
    else:
        right = read_json(CACHE / f"selected-{settings.family}.json")["names"]
        if settings.cause is not None:
            right = [name for name in right if name.startswith(settings.cause)]
    paths = [verdict_path(settings.family, name) for name in right]
    verdicts = [read_json(path) for path in paths if path.exists()]
    if not verdicts:
        parser.error("there is no verdict yet: run first")
    summary = summarise(verdicts)
    print("\n".join(lines(summary)))
    if options.what == "run" and settings.cause is None:
        write(options.out, settings, dataclasses.asdict(summary), verdicts)


def write(
    out: Path | None, settings: Settings, summary: dict[str, object], verdicts: list[dict]
) -> None:
    """Write what was measured, with hardware and versions."""
    kept = ("name", "cause", "acceptable", "verdict", "seconds", "told", "unchanged")
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": f"doctor-{settings.family}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": hardware(),
        "environment": dataclasses.asdict(current_environment(torch.device("cpu"), 1)),
        "settings": dataclasses.asdict(settings),
        "load_average": os.getloadavg()[0],
        "summary": summary,
        "rows": [{name: verdict[name] for name in kept} for verdict in verdicts],
    }
    path = out or Path(__file__).parents[1] / "results" / f"doctor-{settings.family}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
