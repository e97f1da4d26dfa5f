"""Bad input to a layer: each message says what was got, what was expected, and what to do."""

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

import throughtime as tt
from throughtime import errors

pytestmark = pytest.mark.usefixtures("unchecked")

X = torch.zeros(5, 2, 3)
LAYER = tt.LSTM(3, 4, 2)


@pytest.mark.parametrize(
    ("x", "kwargs", "error", "words"),
    [
        (
            torch.zeros(3),
            {},
            errors.ShapeError,
            r"got 1 axes, shape \(3,\), expected \(time,",
        ),
        (torch.zeros(1, 2, 3, 3), {}, errors.ShapeError, "got 4 axes"),
        (torch.zeros(5, 2, 4), {}, errors.ShapeError, "got width 4 .* expected input_size=3"),
        (torch.zeros(0, 2, 3), {}, errors.ShapeError, "no time steps"),
        ("text", {}, errors.ShapeError, "got str, expected a tensor or a PackedSequence"),
        (X.double(), {}, errors.DtypeError, r"got dtype torch.float64.*input.to\(torch.float32\)"),
        (X.long(), {}, errors.DtypeError, "got dtype torch.int64"),
        (X.to("meta"), {}, errors.DeviceError, "got device meta, expected the layer's device cpu"),
        (X, {"lengths": [6, 1]}, errors.LengthsError, "got 6 for sequence 0, expected from 1 to"),
        (X, {"lengths": [5, 0]}, errors.LengthsError, "got 0 for sequence 1.*Leave empty"),
        (X, {"lengths": [5, -2]}, errors.LengthsError, "got -2 for sequence 1"),
        (
            X,
            {"lengths": [5, 1, 1]},
            errors.LengthsError,
            r"got shape \(3,\), expected",
        ),
        (X, {"lengths": [1.5, 2.0]}, errors.LengthsError, "got dtype torch.float32"),
        (X, {"lengths": "ab"}, errors.LengthsError, "got str, expected whole numbers"),
        (X, {"reset": torch.zeros(5, 3).bool()}, errors.ShapeError, r"reset: got shape \(5, 3\)"),
        (X, {"reset": torch.zeros(5, 2)}, errors.DtypeError, "expected a torch.bool tensor"),
        (X, {"reset": [[True]]}, errors.DtypeError, "got list, expected a torch.bool tensor"),
        (
            X,
            {"hx": torch.zeros(2, 2, 4)},
            errors.StateError,
            r"expected a tuple \(h, c\)",
        ),
        (X, {"hx": (torch.zeros(2, 2, 4),)}, errors.StateError, "got 1 fields, expected a tuple"),
        (
            X,
            {"hx": (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))},
            errors.StateError,
            r"hx.h: got shape \(2, 3, 4\), expected \(2, 2, 4\): \(layers \* directions, batch",
        ),
        (X, {"hx": ("h", "c")}, errors.StateError, "hx.h: got str, expected a tensor"),
        (
            X,
            {"hx": (torch.zeros(2, 2, 4).double(), torch.zeros(2, 2, 4))},
            errors.DtypeError,
            "hx.h: got dtype torch.float64, expected torch.float32",
        ),
        (
            X,
            {"hx": (torch.zeros(2, 2, 4).to("meta"), torch.zeros(2, 2, 4))},
            errors.DeviceError,
            "hx.h: got device meta",
        ),
        (X, {"hx": tt.RNN(3, 4, 2, lags=(1, 3))(X)[1]}, errors.StateError, "a state of fields"),
        (
            pack_sequence([X[:, 0]]),
            {"lengths": [5]},
            errors.ConfigurationError,
            "has its own",
        ),
        (torch.zeros(5, 3), {"hx": (torch.zeros(2, 1, 4),) * 2}, errors.StateError, r"\(2, 4\)"),
    ],
)
def test_calls(x, kwargs, error, words):
    with pytest.raises(error, match=words):
        LAYER(x, **kwargs)


def test_batch_first_layers_name_their_own_form():
    layer = tt.GRU(3, 4, batch_first=True)
    with pytest.raises(errors.ShapeError, match=r"reads \(batch, time, input\)"):
        layer(torch.zeros(2, 5, 4))
    with pytest.raises(errors.ShapeError, match=r"got shape \(5, 2\), expected shape \(2, 5\)"):
        layer(torch.zeros(2, 5, 3), reset=torch.zeros(5, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_layers": 0}, "num_layers: got 0"),
        ({"hidden_size": 0}, "hidden_size: got 0"),
        ({"input_size": 2.5}, "input_size: got 2.5"),
        ({"dropout": 1.5}, r"dropout: got 1.5, expected a probability in \[0, 1\]"),
        ({"dropout": True}, "dropout: got True"),
        ({"batch_first": 1}, "batch_first: got 1, expected True or False"),
        ({"bidirectional": "yes"}, "bidirectional: got 'yes'"),
        ({"proj_size": 4}, "proj_size: got 4, expected less than hidden_size=4"),
        ({"proj_size": -1}, "proj_size: got -1"),
        ({"engine": "cudnn"}, "unknown engine: got 'cudnn'"),
    ],
)
def test_constructor(kwargs, words):
    with pytest.raises(errors.ConfigurationError, match=words):
        tt.LSTM(**{"input_size": 3, "hidden_size": 4, **kwargs})


def test_recurrent_takes_a_class_with_sizes_or_a_cell_alone():
    cell = tt.cells.GRUCell(3, 4)
    with pytest.raises(errors.ConfigurationError, match="the cell alone, or what makes such cells"):
        tt.Recurrent(cell, 3, 4)
    with pytest.raises(errors.ConfigurationError, match="input_size and hidden_size too"):
        tt.Recurrent(tt.cells.GRUCell)
