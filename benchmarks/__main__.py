"""Measure, print, write JSON: `python -m benchmarks NAME [--rounds N] [--threads N]`."""

import argparse
import dataclasses
import datetime
import json
import os
import platform
from pathlib import Path

import torch

import benchmarks.budget
import benchmarks.calls
import benchmarks.compiling
import benchmarks.densities
import benchmarks.depth
import benchmarks.drop_in
import benchmarks.endless
import benchmarks.engines
import benchmarks.grids
import benchmarks.language_model
import benchmarks.layers
import benchmarks.learners
import benchmarks.literature
import benchmarks.memory
import benchmarks.neighbour
import benchmarks.penalty
import benchmarks.pixel_rnn
import benchmarks.profile
import benchmarks.sparse_memory
import benchmarks.stepping
import benchmarks.steps
import benchmarks.training
import benchmarks.translation
import benchmarks.trees
import benchmarks.vanishing
import benchmarks.variance
from benchmarks.registry import BENCHMARKS, Row
from throughtime.training import current_environment

SCHEMA_VERSION = 1


def main() -> None:
    """Run one benchmark and write what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*sorted(BENCHMARKS), "profile"])
    parser.add_argument("shapes", nargs="*", help="of profile: B,T,I,H each")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds, at least 2")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/NAME.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.name == "profile":
        benchmarks.profile.main(options.shapes, options.rounds, Path(__file__).parent / "results")
        return
    rows = BENCHMARKS[options.name](options.rounds)
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": options.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": hardware(),
        "environment": dataclasses.asdict(
            current_environment(torch.device("cpu"), options.threads)
        ),
        "rounds": options.rounds,
        "load_average": os.getloadavg()[0],
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    out = options.out or Path(__file__).parent / "results" / f"{options.name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=2) + "\n")
    print("\n".join(map(line, rows)))
    print(f"written to {out}")


def hardware() -> dict[str, object]:
    """The processor of this machine."""
    own = benchmarks.profile.processor()
    model = "{name}, family {family}, model {model}, {vectors}".format(**own)
    return {"processor": model, "machine": platform.machine(), "cores": os.cpu_count()}


def line(row: Row) -> str:
    """One row, as a person reads it."""
    spread = f"{row.ratio:7.2f} ({row.low:.2f} to {row.high:.2f}) {row.unit}"
    took = "" if row.milliseconds is None else f"  [{row.milliseconds:.1f} ms]"
    return f"{row.case:32} {row.candidate:22} vs {row.baseline:24} {spread}{took}"


if __name__ == "__main__":
    main()
