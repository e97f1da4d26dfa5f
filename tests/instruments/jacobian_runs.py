"""Recorded runs of many cells, for tests of their Jacobians."""

import importlib.util
from pathlib import Path

import torch

import throughtime as tt
from throughtime.cells import ChoGRUCell, ElmanCell, LSTMCell, ProjectedLSTMCell
from throughtime.instruments import record

path = Path(__file__).parents[1] / "cells" / "samples.py"
spec = importlib.util.spec_from_file_location("samples", path)
samples = importlib.util.module_from_spec(spec)
spec.loader.exec_module(samples)


class Rolling(tt.GatedCell):
    """Breaks the rule that units do not see each other."""

    gates = 1

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).tanh() + 0.5 * state.h.roll(1, -1).sin()


CELLS = {
    "RNN": lambda: tt.RNN(3, 5, dtype=torch.float64),
    "LSTM": lambda: tt.LSTM(3, 5, dtype=torch.float64),
    "GRU": lambda: tt.GRU(3, 5, dtype=torch.float64),
    "ReLU without bias": lambda: tt.RNN(3, 5, bias=False, nonlinearity="relu", dtype=torch.float64),
    "lags": lambda: tt.Recurrent(ElmanCell, 3, 5, lags=(1, 3), dtype=torch.float64),
    "peepholes": lambda: tt.Recurrent(LSTMCell, 3, 5, peepholes=True, dtype=torch.float64),
    "projection": lambda: tt.Recurrent(ProjectedLSTMCell, 3, 5, proj_size=2, dtype=torch.float64),
    "Cho": lambda: tt.Recurrent(ChoGRUCell, 3, 5, dtype=torch.float64),
    "streams": lambda: tt.Recurrent(samples.StreamedCell, 3, 5, dtype=torch.float64),
    "no past": lambda: tt.Recurrent(samples.MinimalGRU, 3, 5, dtype=torch.float64),
    "products": lambda: tt.Recurrent(samples.MultiplicativeIntegration, 3, 5, dtype=torch.float64),
    "past": lambda: tt.Recurrent(samples.LookingBack, 3, 5, dtype=torch.float64),
    "rolling": lambda: tt.Recurrent(Rolling, 3, 5, dtype=torch.float64),
}


def recorded(name, time=7, scale=2.0, batch=2):
    model = CELLS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    x = torch.randn(time, batch, 3, dtype=torch.float64)
    return record(model, lambda: model(x)[0].sum())


def linear(weight, time, nonlinearity="identity"):
    size = len(weight)
    model = tt.RNN(1, size, nonlinearity=nonlinearity, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight_hh_l0.copy_(torch.as_tensor(weight, dtype=torch.float64))
        model.weight_ih_l0.fill_(1e-3)
    x = torch.zeros(time, 1, 1, dtype=torch.float64)
    return record(model, lambda: model(x)[0].sum())
