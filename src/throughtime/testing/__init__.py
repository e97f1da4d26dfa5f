"""Conformance suites that every cell, engine and layer inherits, the user's own included."""

from throughtime.testing.cells import CellConformance
from throughtime.testing.compare import naive_run
from throughtime.testing.drop_in import DropInConformance
from throughtime.testing.engines import EngineConformance

__all__ = ["CellConformance", "DropInConformance", "EngineConformance", "naive_run"]
