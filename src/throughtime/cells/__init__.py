"""Cells: one step each of a recurrent network."""

from throughtime.cells.clockwork import ClockworkCell
from throughtime.cells.elman import ElmanCell, LeakyCell
from throughtime.cells.gru import ChoGRUCell, GRUCell, MinimalGatedUnitCell
from throughtime.cells.independent import IndRNNCell, MinGRUCell, MinLSTMCell
from throughtime.cells.layer_norm import LayerNormGRUCell, LayerNormLSTMCell
from throughtime.cells.lstm import CoupledLSTMCell, LSTM1997Cell, LSTMCell, ProjectedLSTMCell
from throughtime.cells.multiplicative import (
    MultiplicativeCell,
    MultiplicativeGRUCell,
    MultiplicativeLSTMCell,
)
from throughtime.cells.recurrent_dropout import RecurrentDropoutGRUCell, RecurrentDropoutLSTMCell
from throughtime.cells.slstm import SLSTMCell
from throughtime.cells.two_state import FlipFlopCell, LatchUnitCell, ThresholdCell
from throughtime.cells.unitary import UnitaryCell

__all__ = [
    "ChoGRUCell",
    "ClockworkCell",
    "CoupledLSTMCell",
    "ElmanCell",
    "FlipFlopCell",
    "GRUCell",
    "IndRNNCell",
    "LSTM1997Cell",
    "LSTMCell",
    "LatchUnitCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LeakyCell",
    "MinGRUCell",
    "MinLSTMCell",
    "MinimalGatedUnitCell",
    "MultiplicativeCell",
    "MultiplicativeGRUCell",
    "MultiplicativeLSTMCell",
    "ProjectedLSTMCell",
    "RecurrentDropoutGRUCell",
    "RecurrentDropoutLSTMCell",
    "SLSTMCell",
    "ThresholdCell",
    "UnitaryCell",
]
