"""Figures in the documentation are those that were measured."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_tables_of_engines_are_those_of_the_results():
    """Made anew by `python -m benchmarks.tables`."""
    code = "from benchmarks.tables import PAGE, page; t = PAGE.read_text(); assert page(t) == t"
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
