"""The native engine: any gated cell on the CPU, as C++ that is generated for it."""

from throughtime.engines.cpp.engine import NativeEngine

__all__ = ["NativeEngine"]
