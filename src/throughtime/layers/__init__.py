"""Layers: what users put in a model."""

from throughtime.layers.layer import RecurrentLayer
from throughtime.layers.recurrent import GRU, LSTM, RNN, Recurrent

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "RecurrentLayer"]
