"""Recurrent networks that have to remember: build, run, train, measure and compare them."""

from throughtime import cells, engines, instruments, models, tasks, wiring
from throughtime.core import errors, initializers
from throughtime.core.cell import Cell
from throughtime.core.gated import GatedCell
from throughtime.core.state import State
from throughtime.engines import engine_options
from throughtime.layers import GRU, LSTM, RNN, Recurrent

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "GatedCell",
    "Recurrent",
    "State",
    "cells",
    "engine_options",
    "engines",
    "errors",
    "initializers",
    "instruments",
    "models",
    "tasks",
    "wiring",
]
