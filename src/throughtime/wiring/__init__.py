"""Wiring: cells made of cells, and the graph of an architecture."""

from throughtime.wiring.complexity import Complexity, complexity
from throughtime.wiring.deep import (
    DeepInputCell,
    DeepOutputCell,
    DeepTransitionCell,
    HierarchicalCell,
    StackedCell,
)
from throughtime.wiring.graph import Architecture, Edge, architecture, read_architecture
from throughtime.wiring.graph_cell import GraphCell
from throughtime.wiring.zoneout import ZoneoutCell

__all__ = [
    "Architecture",
    "Complexity",
    "DeepInputCell",
    "DeepOutputCell",
    "DeepTransitionCell",
    "Edge",
    "GraphCell",
    "HierarchicalCell",
    "StackedCell",
    "ZoneoutCell",
    "architecture",
    "complexity",
    "read_architecture",
]
