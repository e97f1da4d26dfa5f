"""Inputs and labels were shuffled separately: 50 %, "LSTM always predicts the same class".

Source: Rebuilt, no single thread: X and y shuffled apart from each other.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0][:, -1])


def make(faulty: bool) -> Case:
    x, y = cued(1536, 15)
    train = batched(x, y[torch.randperm(len(y))] if faulty else y)
    nothing = {"right": {"no dependence found"}, "partly": set[str]()}
    return classifier(
        Classifier(), train, batched(*cued(512, 15)), nothing if faulty else {"healthy"}
    )
