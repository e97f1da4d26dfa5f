"""Cells with an external memory: attention over an encoder's outputs, and memories of words."""

from throughtime.memory.access import Accesses, MemoryCell
from throughtime.memory.attention import (
    AdditiveAttention,
    Attention,
    AttentionCell,
    DotAttention,
)
from throughtime.memory.dense import DAMCell
from throughtime.memory.ntm import NTMCell
from throughtime.memory.sparse import SAMCell

__all__ = [
    "Accesses",
    "AdditiveAttention",
    "Attention",
    "AttentionCell",
    "DAMCell",
    "DotAttention",
    "MemoryCell",
    "NTMCell",
    "SAMCell",
]
