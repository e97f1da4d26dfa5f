"""The drop-in suite, applied to layers of every kind."""

import pytest
from torch import nn

import throughtime as tt
from throughtime.cells import ClockworkCell, GRUCell, LSTMCell, MinGRUCell
from throughtime.testing import DropInConformance
from throughtime.wiring import ZoneoutCell

# what captures a program cannot read the checks of annotations
pytestmark = [
    pytest.mark.usefixtures("unchecked"),
    # torch's own, in its exporters, traces and fake tensors
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:Exporting a model to ONNX with a batch_size:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning"),
]


class TestLSTM(DropInConformance):
    def make(self, **options):
        return tt.LSTM(3, 4, 2, **options)

    def reference(self, **options):
        return nn.LSTM(3, 4, 2, **options)


class TestProjectedLSTM(DropInConformance):
    def make(self, **options):
        return tt.LSTM(3, 4, proj_size=2, **options)

    def reference(self, **options):
        return nn.LSTM(3, 4, proj_size=2, **options)


class TestGRU(DropInConformance):
    def make(self, **options):
        return tt.GRU(3, 4, bidirectional=True, **options)

    def reference(self, **options):
        return nn.GRU(3, 4, bidirectional=True, **options)


class TestRNN(DropInConformance):
    def make(self, **options):
        return tt.RNN(3, 4, nonlinearity="relu", **options)

    def reference(self, **options):
        return nn.RNN(3, 4, nonlinearity="relu", **options)


class TestSkipRNN(DropInConformance):
    def make(self, **options):
        return tt.RNN(3, 4, lags=(1, 3), **options)


class TestMinGRU(DropInConformance):
    def make(self, **options):
        return tt.Recurrent(MinGRUCell, 3, 4, **options)


class TestClockwork(DropInConformance):
    def make(self, **options):
        return tt.Recurrent(ClockworkCell, 3, 4, bidirectional=True, **options)


class TestZoneout(DropInConformance):
    def make(self, **options):
        return tt.Recurrent(lambda i, h: ZoneoutCell(LSTMCell(i, h)), 3, 4, **options)


class TestGivenCell(DropInConformance):
    def make(self, **options):
        return tt.Recurrent(GRUCell(3, 4), **options)
