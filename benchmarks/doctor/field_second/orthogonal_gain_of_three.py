"""The recurrent matrix is orthogonal times three, as if `gain` had to fight the vanishing gradient.

Source: kind: fferroni/PhasedLSTM-Keras issue 21 and pytorch/pytorch issue 2623, on gradients that
explode. Small differences grow from step to step, and the units are at their bounds.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued, fit


class CueReader(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.rnn = nn.RNN(4, 32, batch_first=True)
        self.out = nn.Linear(32, 4)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 40, 30, classes=4, at=2))
    train, test = batches[:32], batches[32:]
    return Case(
        CueReader(3.0 if faulty else 1.0),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=14, lr=0.003, clip=torch.inf),
        lambda model: accuracy(model, test),
        chance=0.25,
        good=0.9,
        accept={"right": {"exploding gradient", "saturated"}, "partly": set()}
        if faulty
        else {"healthy"},
    )
