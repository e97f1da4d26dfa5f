"""Layers: what users put in a model."""

from throughtime.layers.grid import GridLayer, GridLSTM, GridRNN
from throughtime.layers.layer import RecurrentLayer
from throughtime.layers.recurrent import GRU, LSTM, RNN, Recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GridLSTM",
    "GridLayer",
    "GridRNN",
    "Recurrent",
    "RecurrentLayer",
]
