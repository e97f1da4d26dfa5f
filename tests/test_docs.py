"""Figures in the documentation are those that were measured, and its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        address, _, heading = link.partition("#")
        if re.match(r"[a-z]+:", address):
            continue
        target = page.parent / address if address else page
        assert target.is_file(), f"{page.name}: {link}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            names = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
            assert heading in names, f"{page.name}: {link}"


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
