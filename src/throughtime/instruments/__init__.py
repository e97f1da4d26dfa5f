"""Instruments: what a recurrent network can and cannot remember, measured."""

from throughtime.instruments.gradient_flow import GradientFlow, gradient_flow

__all__ = ["GradientFlow", "gradient_flow"]
