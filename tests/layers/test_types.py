"""A user's file, which the type checker reads with the package: calls have precise types."""

from typing import assert_type

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import throughtime as tt
from throughtime.layers.arguments import HState, LSTMState

X = torch.zeros(4, 2, 3)


def test_an_lstm() -> None:
    layer = tt.LSTM(3, 5)
    output, (h, c) = layer(X)
    assert_type(output, Tensor)
    assert_type(h, Tensor)
    assert_type(layer(X), tuple[Tensor, LSTMState])
    _, state, states = layer(X, (h, c), return_states=True)
    assert_type(states.c, Tensor)
    assert torch.equal(states.c[-1], state.c)


def test_a_gru() -> None:
    layer = tt.GRU(3, 5, batch_first=True)
    assert_type(layer(X), tuple[Tensor, Tensor])
    assert_type(layer(X, return_states=True)[2], HState)
    packed = layer(pack_sequence([X[0]]))
    assert_type(packed, tuple[PackedSequence, Tensor])


def test_any_cell() -> None:
    for layer in (tt.RNN(3, 5, lags=(1, 3)), tt.Recurrent(tt.cells.ElmanCell, 3, 5, lags=(1, 3))):
        assert_type(layer(X)[0], Tensor)
        assert len(layer(X)[1].past) == 2


def test_lengths_of_numpy() -> None:
    layer = tt.LSTM(3, 5)
    lengths = np.array([4, 2])
    expected = layer(X, lengths=[4, 2])[1].h
    for given in (lengths, list(lengths), tuple(lengths), torch.from_numpy(lengths)):
        assert torch.equal(layer(X, lengths=given)[1].h, expected)
