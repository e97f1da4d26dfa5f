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


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bias": "False"}, "bias: got 'False', expected True or False"),
        ({"bias": 0}, "bias: got 0"),
        ({"bias": None}, "bias: got None"),
        ({"batch_first": 1}, "batch_first: got 1"),
        ({"input_size": 2.5}, "input_size: got 2.5"),
        ({"hidden_size": None}, "hidden_size: got None"),
        ({"num_layers": "2"}, "num_layers: got '2'"),
        ({"input_size": 0}, "input_size: got 0"),
        ({"hidden_size": -1}, "hidden_size: got -1"),
        ({"num_layers": 0}, "num_layers: got 0"),
        ({"num_layers": 2, "dropout": 1.5}, "dropout: got 1.5"),
        ({"num_layers": 2, "dropout": None}, "dropout: got None"),
        ({"num_layers": 2, "dropout": True}, "dropout: got True"),
        ({"proj_size": 4}, "proj_size.*: got 4"),
        ({"proj_size": -1}, "proj_size.*: got -1"),
    ],
)
def test_a_constructor_raises_what_torch_raises(kind, options, words):
    """An `except` clause that is written for torch.nn catches ours."""
    options = {"input_size": 3, "hidden_size": 4, **options}
    with pytest.raises(Exception) as theirs:  # noqa: PT011  # the type is what is asked for
        getattr(torch.nn, kind)(**options)
    with pytest.raises(theirs.type, match=words) as ours:
        getattr(tt, kind)(**options)
    assert isinstance(ours.value, errors.ConfigurationError)


def test_a_projection_of_others_than_the_lstm_is_refused_in_words():
    for kind in (tt.GRU, tt.RNN):
        with pytest.raises(ValueError, match=r"got 2, expected 0, since only an LSTM .* Use LSTM"):
            kind(3, 4, proj_size=2)


def test_what_torch_takes_as_bidirectional():
    assert tt.GRU(3, 4, bidirectional=1).num_directions == 2


def test_tensors_that_are_not_dense():
    layer, x = tt.GRU(3, 4), torch.zeros(5, 2, 3)
    with pytest.raises(errors.ShapeError, match=r"got layout torch\.sparse_coo, expected a dense"):
        layer(x.to_sparse())
    with pytest.raises(errors.ShapeError, match=r"hx\.h: got layout torch\.sparse_coo"):
        layer(x, torch.zeros(1, 2, 4).to_sparse())
    with pytest.raises(errors.ShapeError, match=r"reset: got layout torch\.sparse_coo"):
        layer(x, reset=torch.zeros(5, 2, dtype=torch.bool).to_sparse())
