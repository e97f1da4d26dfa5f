"""Cells: one step each of a recurrent network."""

from throughtime.cells.elman import ElmanCell
from throughtime.cells.gru import ChoGRUCell, GRUCell
from throughtime.cells.lstm import CoupledLSTMCell, LSTM1997Cell, LSTMCell, ProjectedLSTMCell

__all__ = [
    "ChoGRUCell",
    "CoupledLSTMCell",
    "ElmanCell",
    "GRUCell",
    "LSTM1997Cell",
    "LSTMCell",
    "ProjectedLSTMCell",
]
