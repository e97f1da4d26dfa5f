"""Step-by-step replicas of layers that are not ours, on their own parameters."""

from torch import nn

from throughtime.core.errors import ConfigurationError
from throughtime.layers.layer import RecurrentLayer
from throughtime.layers.torch_layers import GRU, LSTM, RNN


def adopt(layer: nn.Module) -> RecurrentLayer:
    """A layer of ours that computes what a recurrent layer of torch.nn computes.

    Arguments:
        layer: a `torch.nn.LSTM`, `GRU` or `RNN`, or a layer of ours, which is copied without its
            data. It is not changed.

    Returns:
        A layer in the same mode whose parameters are the very tensors of the given one.

    Raises:
        ConfigurationError: any other module.

    Example:
        >>> import torch
        >>> theirs = nn.LSTM(3, 5)
        >>> ours = adopt(theirs)
        >>> ours.weight_hh_l0 is theirs.weight_hh_l0
        True
    """
    if isinstance(layer, RecurrentLayer):
        return layer.replica()
    if not isinstance(layer, nn.RNNBase):
        raise ConfigurationError(
            "adopt",
            got=type(layer).__name__,
            expected="torch.nn.LSTM, GRU or RNN, or a layer of throughtime",
        )
    options = {
        "num_layers": layer.num_layers,
        "bias": layer.bias,
        "batch_first": layer.batch_first,
        "bidirectional": layer.bidirectional,
        "device": "meta",
    }
    if layer.mode == "LSTM":
        ours = LSTM(layer.input_size, layer.hidden_size, proj_size=layer.proj_size, **options)
    elif layer.mode == "GRU":
        ours = GRU(layer.input_size, layer.hidden_size, **options)
    else:
        nonlinearity = "tanh" if layer.mode == "RNN_TANH" else "relu"
        ours = RNN(layer.input_size, layer.hidden_size, nonlinearity=nonlinearity, **options)
    # set afterwards: a constructor would warn of dropout on a single layer
    ours.dropout = layer.dropout
    ours.share_tensors(layer)
    return ours.train(layer.training)
