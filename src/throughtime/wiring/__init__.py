"""Wiring: cells made of cells."""

from throughtime.wiring.stacked import StackedCell

__all__ = ["StackedCell"]
