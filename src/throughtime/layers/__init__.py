"""Layers: what users put in a model."""

from throughtime.layers.layer import RecurrentLayer
from throughtime.layers.recurrent import Recurrent
from throughtime.layers.torch_layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "RecurrentLayer"]
