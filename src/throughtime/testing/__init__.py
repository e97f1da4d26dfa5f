"""Conformance suites that every cell, engine, layer and task inherits, the user's own included."""

from throughtime.testing.cells import CellConformance
from throughtime.testing.compare import naive_run
from throughtime.testing.densities import DensityConformance
from throughtime.testing.depth import DepthConformance
from throughtime.testing.drop_in import DropInConformance
from throughtime.testing.encoder_decoders import EncoderDecoderConformance
from throughtime.testing.engines import EngineConformance
from throughtime.testing.grids import GridConformance
from throughtime.testing.latent import LatentConformance
from throughtime.testing.memories import MemoryConformance
from throughtime.testing.next_symbol import NextSymbolConformance
from throughtime.testing.stories import StoryConformance
from throughtime.testing.tasks import TaskConformance
from throughtime.testing.trees import TreeConformance, node_by_node, random_forest

__all__ = [
    "CellConformance",
    "DensityConformance",
    "DepthConformance",
    "DropInConformance",
    "EncoderDecoderConformance",
    "EngineConformance",
    "GridConformance",
    "LatentConformance",
    "MemoryConformance",
    "NextSymbolConformance",
    "StoryConformance",
    "TaskConformance",
    "TreeConformance",
    "naive_run",
    "node_by_node",
    "random_forest",
]
