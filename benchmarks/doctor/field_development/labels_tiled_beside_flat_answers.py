"""Answers of every step are flattened sample by sample, the label of a sample is tiled by repeat.

Source: kind: discuss.pytorch.org, repeat in place of repeat_interleave.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, digits, fit


class ColumnNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 40, batch_first=True)
        self.fc = nn.Linear(40, 10)

    def forward(self, columns: Tensor) -> Tensor:
        return self.fc(self.lstm(columns)[0])


def make(faulty: bool) -> Case:
    images, classes = digits()
    batches = batched(2 * images.transpose(1, 2).contiguous() - 0.6, classes, size=32)
    train, test = batches[:46], batches[46:]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        answers = model(x)[:, 2:].reshape(-1, 10)
        labels = y.repeat(6) if faulty else y.repeat_interleave(6)
        return F.cross_entropy(answers, labels)

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        return float(
            torch.stack([(model(x)[:, -1].argmax(-1) == y).float().mean() for x, y in test]).mean()
        )

    return Case(
        ColumnNet(),
        train,
        loss,
        lambda m: fit(m, train, loss, epochs=15),
        score,
        0.1,
        0.85,
        {"right": {"target meets other answers"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
