"""Recurrent modules that are not ours: running them with our engines, recording them."""

from throughtime.foreign.adapters import Steps, register
from throughtime.foreign.recording import Recording, record
from throughtime.foreign.sites import recurrent_layers

__all__ = ["Recording", "Steps", "record", "recurrent_layers", "register"]
