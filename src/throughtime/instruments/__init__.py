"""Instruments: what a recurrent network can and cannot remember, measured."""

from throughtime.instruments.dynamics import Dynamics
from throughtime.instruments.gradient_flow import GradientFlow, gradient_flow
from throughtime.instruments.recording import Recording, record

__all__ = ["Dynamics", "GradientFlow", "Recording", "gradient_flow", "record"]
