"""The digit reader ends in `nn.Softmax(dim=-1)`, and `CrossEntropyLoss` takes a second softmax.

Source: kind: the most frequent answer in discuss.pytorch.org threads on a stuck cross-entropy.
Data: handwritten digits, read four pixels a step; SGD, whose steps shrink with the gradient.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, digits, fit


class PixelReader(nn.Module):
    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 10)
        self.last = nn.Softmax(dim=-1) if softmax else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.last(self.fc(out[:, -1]))


def make(faulty: bool) -> Case:
    images, classes = digits()
    batches = batched(images.reshape(-1, 16, 4), classes)
    train, test = batches[:46], batches[46:]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.04, momentum=0.9)

    return Case(
        PixelReader(softmax=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, 22, optimizer=optimizer(model)),
        lambda model: accuracy(model, test),
        chance=0.1,
        good=0.8,
        accept={"right": {"answers do not fit the loss"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"optimizer": optimizer},
    )
