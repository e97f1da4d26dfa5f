"""Scans of digits are viewed as sequences of length one before the layer.

Source: dafrie/lstm-load-forecasting issue 3, "the RNN only is usual MLP"; discuss.pytorch.org
98896, where the data have the shape (1790, 1, 3). Data: digits, four pixels a step; the answer
is the ink so far.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, digits, forecaster


class Ink(nn.Module):
    def __init__(self, flatten: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 24, batch_first=True)
        self.fc = nn.Linear(24, 1)
        self.flatten = flatten

    def forward(self, x: Tensor) -> Tensor:
        samples, steps, features = x.shape
        if self.flatten:
            x = x.reshape(-1, 1, features)
        out, _ = self.gru(x)
        return self.fc(out).view(samples, steps)


def make(faulty: bool) -> Case:
    images, _ = digits()
    x = images.reshape(-1, 16, 4)
    ink = x.sum(2).cumsum(1)
    batches = batched(x, (ink - ink.mean(0)) / ink.std(0).clamp(min=0.5), size=36)
    return forecaster(
        Ink(flatten=faulty),
        batches[:40],
        batches[40:],
        {"right": {"one-step sequences"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        good=0.85,
    )
