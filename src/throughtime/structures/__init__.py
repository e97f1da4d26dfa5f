"""Structures beyond the chain: trees and acyclic graphs, and grids of pixels, level by level."""

from throughtime.structures.forest import Forest
from throughtime.structures.grid import Grid, check_sizes
from throughtime.structures.grid_scan import GridStep, LSTMStep, RNNStep, scan
from throughtime.structures.recursive import RNTN, RecNN
from throughtime.structures.tree_layer import Children, TreeLayer, TreeOutput
from throughtime.structures.tree_lstm import TreeLSTM

__all__ = [
    "RNTN",
    "Children",
    "Forest",
    "Grid",
    "GridStep",
    "LSTMStep",
    "RNNStep",
    "RecNN",
    "TreeLSTM",
    "TreeLayer",
    "TreeOutput",
    "check_sizes",
    "scan",
]
