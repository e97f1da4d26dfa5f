"""Cells with an external memory: attention over the outputs of an encoder, Turing machines."""

from throughtime.memory.access import Accesses, MemoryCell
from throughtime.memory.attention import (
    AdditiveAttention,
    Attention,
    AttentionCell,
    DotAttention,
)
from throughtime.memory.ntm import NTMCell

__all__ = [
    "Accesses",
    "AdditiveAttention",
    "Attention",
    "AttentionCell",
    "DotAttention",
    "MemoryCell",
    "NTMCell",
]
