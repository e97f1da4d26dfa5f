"""Recurrent networks that have to remember: build, run, train, measure and compare them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from throughtime import (
        cells,
        doctor,
        engines,
        instruments,
        learning,
        memory,
        models,
        reports,
        results,
        structures,
        studies,
        tasks,
        training,
        wiring,
    )
    from throughtime.core import errors, initializers
    from throughtime.core.cell import Cell
    from throughtime.core.gated import GatedCell
    from throughtime.core.state import State
    from throughtime.doctor import diagnose
    from throughtime.engines import engine_options
    from throughtime.layers import GRU, LSTM, RNN, GridLSTM, GridRNN, Recurrent
    from throughtime.models import Beam, Sampling, beam_search, generate, stream
    from throughtime.reports.plot import plot
    from throughtime.reports.read import load
    from throughtime.structures import RNTN, Forest, RecNN, TreeLSTM

__version__ = "0.1.0"

_DEFINED_IN = {
    "Beam": "models",
    "Cell": "core.cell",
    "Forest": "structures",
    "GRU": "layers",
    "GatedCell": "core.gated",
    "GridLSTM": "layers",
    "GridRNN": "layers",
    "LSTM": "layers",
    "RNN": "layers",
    "RNTN": "structures",
    "RecNN": "structures",
    "Recurrent": "layers",
    "Sampling": "models",
    "State": "core.state",
    "TreeLSTM": "structures",
    "beam_search": "models",
    "diagnose": "doctor",
    "engine_options": "engines",
    "generate": "models",
    "load": "reports.read",
    "plot": "reports.plot",
    "stream": "models",
}
_MODULES = {"errors": "core.errors", "initializers": "core.initializers"}
"""The modules whose place is not their name."""


def __getattr__(name: str) -> Any:
    """A public name, imported on first use: `throughtime --help` does not load torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    origin = _DEFINED_IN.get(name) or _MODULES.get(name, name)
    module = importlib.import_module(f"{__name__}.{origin}")
    found = getattr(module, name) if name in _DEFINED_IN else module
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)


__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "RNTN",
    "Beam",
    "Cell",
    "Forest",
    "GatedCell",
    "GridLSTM",
    "GridRNN",
    "RecNN",
    "Recurrent",
    "Sampling",
    "State",
    "TreeLSTM",
    "beam_search",
    "cells",
    "diagnose",
    "doctor",
    "engine_options",
    "engines",
    "errors",
    "generate",
    "initializers",
    "instruments",
    "learning",
    "load",
    "memory",
    "models",
    "plot",
    "reports",
    "results",
    "stream",
    "structures",
    "studies",
    "tasks",
    "training",
    "wiring",
]
