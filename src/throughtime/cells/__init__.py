"""Cells: one step each of a recurrent network."""

from throughtime.cells.clockwork import ClockworkCell
from throughtime.cells.elman import ElmanCell
from throughtime.cells.flipflop import FlipFlopCell
from throughtime.cells.gru import ChoGRUCell, GRUCell
from throughtime.cells.independent import IndRNNCell, MinGRUCell, MinLSTMCell
from throughtime.cells.latch_unit import LatchUnitCell
from throughtime.cells.layer_norm import LayerNormGRUCell, LayerNormLSTMCell
from throughtime.cells.leaky import LeakyCell
from throughtime.cells.lstm import CoupledLSTMCell, LSTM1997Cell, LSTMCell, ProjectedLSTMCell
from throughtime.cells.minimal import MinimalGatedUnitCell
from throughtime.cells.multiplicative import (
    MultiplicativeCell,
    MultiplicativeGRUCell,
    MultiplicativeLSTMCell,
)
from throughtime.cells.recurrent_dropout import RecurrentDropoutGRUCell, RecurrentDropoutLSTMCell
from throughtime.cells.threshold import ThresholdCell
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
    "ThresholdCell",
    "UnitaryCell",
]
