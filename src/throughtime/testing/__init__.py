"""Conformance suites that every cell, engine and layer inherits, the user's own included."""

from throughtime.testing.cells import CellConformance
from throughtime.testing.drop_in import DropInConformance
from throughtime.testing.engines import EngineConformance
from throughtime.testing.naive import naive_run

__all__ = ["CellConformance", "DropInConformance", "EngineConformance", "naive_run"]
