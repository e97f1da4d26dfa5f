"""The native engine on random cells, shapes, operands and modes, under sanitizers.

    make fuzz MINUTES=60                                        # each seed in a process of its own
    PYTHONPATH=tests python -m engines.cpp.fuzz --only 1234  # one seed again

Python itself runs under the address sanitizer, so that each tensor lies between guarded memory, and
the kernels are compiled with it and with the undefined-behaviour sanitizer. Each seed draws cells;
each cell is run in random modes and compared with the eager engine; and its operators are called
with operands that do not fit, which they have to refuse.
"""

import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1"
LIMIT = 900
"""Seconds that a seed may take."""


def environment(folder: Path) -> dict[str, str] | None:
    """The environment in which Python and the kernels run under sanitizers; None if none is here.

    Arguments:
        folder: for the compiler that adds them, and for what it compiles.
    """
    real = next((path for name in ("g++", "c++") if (path := shutil.which(name))), None)
    if real is None:
        return None

    def library(name: str) -> str:
        words = [real, f"-print-file-name={name}"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    libraries = [library("libasan.so"), library("libstdc++.so")]
    if not all(os.path.isabs(path) for path in libraries):
        return None
    compiler = folder / "compiler"
    compiler.write_text(f'#!/bin/sh\nexec {real} "$@" {SANITIZERS}\n')
    compiler.chmod(0o700)
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:alloc_dealloc_mismatch=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
        "THROUGHTIME_CXX": str(compiler),
        "THROUGHTIME_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def run_seed(number: int, cells: int, env: dict[str, str]) -> tuple[dict[str, int], str]:
    """What one seed did, in a process of its own; and what went wrong, if something did."""
    words = [sys.executable, "-m", "engines.cpp.fuzz", "--child", str(number)]
    try:
        ran = subprocess.run(
            [*words, "--cells", str(cells)], env=env, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {}, f"it took more than {LIMIT} seconds"
    if ran.returncode != 0:
        return {}, f"exit code {ran.returncode}\n{ran.stdout[-2000:]}\n{ran.stderr[-6000:]}"
    return json.loads(ran.stdout.splitlines()[-1]), ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the native engine under sanitizers.")
    parser.add_argument("--minutes", type=float, default=60, help="after which it stops")
    parser.add_argument("--cells", type=int, default=16, help="random cells of a seed")
    parser.add_argument("--first", type=int, default=None, help="first seed; the time if left out")
    parser.add_argument("--only", type=int, default=None, help="one seed, to see it fail again")
    parser.add_argument("--child", type=int, default=None, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.child is not None:
        from engines.cpp.fuzz_seed import Fuzzer

        print(json.dumps(Fuzzer(words.child, words.cells).run()))
        return 0
    end, failures = time.monotonic() + 60 * words.minutes, 0
    total: collections.Counter[str] = collections.Counter()
    first = words.only if words.only is not None else words.first
    number = int(time.time()) if first is None else first
    with tempfile.TemporaryDirectory() as folder:
        env = environment(Path(folder))
        if env is None:
            print("no g++ with an address sanitizer is here")
            return 1
        while True:
            counts, wrong = run_seed(number, words.cells, env)
            total.update(counts)
            total["seeds"] += 1
            if wrong:
                failures += 1
                print(f"seed {number} failed (again by --only {number} --cells {words.cells}):")
                print(wrong, flush=True)
            else:
                print(f"seed {number}: {counts}", flush=True)
            number += 1
            if words.only is not None or time.monotonic() > end:
                break
    print(f"{failures} failures; {dict(total)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
