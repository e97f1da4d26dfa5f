"""The network sees each training image once, at a fine-grained rate, and is then judged.

Source: kind: forum threads whose answer is "train longer". Data: handwritten digits, four pixels a
step; the twin makes 16 passes.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, digits, fit


class DigitReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 40, batch_first=True)
        self.fc = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        _, h = self.gru(x)
        return self.fc(h[-1])


def make(faulty: bool) -> Case:
    images, classes = digits()
    batches = batched(images.transpose(1, 2).reshape(-1, 16, 4), classes)
    train, test = batches[:46], batches[46:]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.003)

    return Case(
        DigitReader(),
        train,
        cross_entropy,
        lambda model: fit(
            model, train, cross_entropy, 1 if faulty else 16, optimizer=optimizer(model)
        ),
        lambda model: accuracy(model, test),
        chance=0.1,
        good=0.85,
        accept={"right": {"undertrained"}, "partly": {"step size"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"optimizer": optimizer},
    )
