"""A loop `for x_t in x` over a batch-first tensor runs an LSTMCell over the samples.

Source: kind: discuss.pytorch.org threads on LSTMCell loops, such as 159152. The state walks from
sample to sample, each step of time by itself.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class CellClassifier(nn.Module):
    def __init__(self, transpose: bool) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 24)
        self.out = nn.Linear(24, 4)
        self.transpose = transpose

    def forward(self, x: Tensor) -> Tensor:
        steps = x.transpose(0, 1) if self.transpose else x
        h = c = x.new_zeros(steps.shape[1], 24)
        states = []
        for x_t in steps:
            h, c = self.cell(x_t, (h, c))
            states.append(h)
        last = states[-1] if self.transpose else torch.stack(states)[:, -1]
        return self.out(last)


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 40, 20, classes=4, at=6, noise=0.4))
    return classifier(
        CellClassifier(transpose=not faulty),
        batches[:32],
        batches[32:],
        {"right": {"time and batch swapped"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy"},
        epochs=16,
        classes=4,
    )
