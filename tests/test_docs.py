"""Figures in the documentation are those that were measured."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_tables_are_those_of_the_results():
    """Made anew by `python -m benchmarks.tables`."""
    code = (
        "from benchmarks.tables import PAGES, page\n"
        "for path in PAGES:\n"
        "    text = path.read_text()\n"
        "    assert page(text) == text, path\n"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
