"""Cells with an external memory: attention over the outputs of an encoder."""

from throughtime.memory.attention import (
    AdditiveAttention,
    Attention,
    AttentionCell,
    DotAttention,
)

__all__ = ["AdditiveAttention", "Attention", "AttentionCell", "DotAttention"]
