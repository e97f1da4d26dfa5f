"""Gaussian variables with independent elements."""

from throughtime.core.gaussian import DiagonalGaussian

__all__ = ["DiagonalGaussian"]
