"""Networks over trees and acyclic graphs, level by level."""

from throughtime.structures.forest import Forest
from throughtime.structures.tree_layer import Children, TreeLayer, TreeOutput
from throughtime.structures.tree_lstm import TreeLSTM

__all__ = ["Children", "Forest", "TreeLSTM", "TreeLayer", "TreeOutput"]
