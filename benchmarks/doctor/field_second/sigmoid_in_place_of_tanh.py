"""A cell of the user's own squashes its state with a sigmoid, whose slope is at most one quarter.

Source: chenxie95/deeplearning_course_sjtu issue 31, which goes from ReLU to a sigmoid;
pytorch/pytorch issue 2623, on vanishing gradients in the cell of the tutorial.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class OwnCell(nn.Module):
    def __init__(self, sigmoid: bool) -> None:
        super().__init__()
        self.i2h = nn.Linear(4, 32)
        self.h2h = nn.Linear(32, 32, bias=False)
        self.sigmoid = sigmoid
        nn.init.orthogonal_(self.h2h.weight)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        total = self.i2h(x) + self.h2h(hidden)
        return torch.sigmoid(total) if self.sigmoid else torch.tanh(total)


class SequenceClassifier(nn.Module):
    def __init__(self, sigmoid: bool) -> None:
        super().__init__()
        self.cell = OwnCell(sigmoid)
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(len(x), 32)
        for x_t in x.unbind(1):
            hidden = self.cell(x_t, hidden)
        return self.out(hidden)


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 40, 22, classes=4, at=2, noise=0.2))
    return classifier(
        SequenceClassifier(sigmoid=faulty),
        batches[:32],
        batches[32:],
        {"right": {"vanishing gradient"}, "partly": {"forgetting"}} if faulty else {"healthy"},
        epochs=12,
        classes=4,
        lr=0.003,
    )
