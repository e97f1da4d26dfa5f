"""Labels by coin are learned by heart: 100 % in training, 50 % on the held-out batches.

Source: Rebuilt, no single thread: training accuracy 1, validation accuracy 0.5.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 48, batch_first=True)
        self.fc = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0][:, -1])


def make(faulty: bool) -> Case:
    def recordings(count: int) -> list[tuple[Tensor, Tensor]]:
        x, y = cued(count, 15)
        return batched(x, torch.randint(2, (count,)) if faulty else y, size=16)

    train, test = recordings(256 if faulty else 768), recordings(512)
    nothing = {"right": {"no dependence found"}, "partly": set[str]()}
    return classifier(
        Classifier(),
        train,
        test,
        nothing if faulty else {"healthy"},
        epochs=60 if faulty else 10,
        options=lambda m: {"unseen": test[:16]},
    )
