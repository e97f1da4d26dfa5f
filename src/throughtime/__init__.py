"""Recurrent networks that have to remember: build, run, train, measure and compare them."""

import importlib
from typing import TYPE_CHECKING, Any

from throughtime import cells, engines, instruments, learning, models, tasks, wiring
from throughtime.core import errors, initializers
from throughtime.core.cell import Cell
from throughtime.core.gated import GatedCell
from throughtime.core.state import State
from throughtime.engines import engine_options
from throughtime.layers import GRU, LSTM, RNN, Recurrent

if TYPE_CHECKING:
    from throughtime import doctor
    from throughtime.doctor import diagnose

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The doctor comes when it is asked for, since `import throughtime` loads little."""
    if name in ("diagnose", "doctor"):
        doctor = importlib.import_module("throughtime.doctor")
        return doctor if name == "doctor" else doctor.diagnose
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "GatedCell",
    "Recurrent",
    "State",
    "cells",
    "diagnose",
    "doctor",
    "engine_options",
    "engines",
    "errors",
    "initializers",
    "instruments",
    "learning",
    "models",
    "tasks",
    "wiring",
]
