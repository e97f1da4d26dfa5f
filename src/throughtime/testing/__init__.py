"""Conformance suites that every cell and engine inherits, the user's own included."""

from throughtime.testing.cells import CellConformance
from throughtime.testing.engines import EngineConformance
from throughtime.testing.naive import naive_run

__all__ = ["CellConformance", "EngineConformance", "naive_run"]
