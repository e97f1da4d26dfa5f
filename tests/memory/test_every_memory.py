"""Every cell with a memory has a suite."""

import importlib
from pathlib import Path

import throughtime as tt
from throughtime.testing import CellConformance


def test_every_cell_with_a_memory_has_a_suite() -> None:
    covered: set[type] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for suite in vars(importlib.import_module(f"memory.{path.stem}")).values():
            if isinstance(suite, type) and issubclass(suite, CellConformance):
                concrete = not getattr(suite, "__abstractmethods__", None)
                covered |= {type(suite().make_cell(2, 3))} if concrete else set()
    public = [getattr(tt.memory, name) for name in tt.memory.__all__]
    cells = {c for c in public if isinstance(c, type) and issubclass(c, tt.Cell)}
    concrete = {c for c in cells if not getattr(c, "__abstractmethods__", None)}
    assert concrete
    assert concrete <= covered
