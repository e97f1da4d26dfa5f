"""A CRNN hands its (image, column) features to a time-first GRU, which steps over the images.

Source: kind: meijieru/crnn.pytorch issue 69, a CRNN that learns nothing.
Data: strips of three handwritten digits; the class is the leftmost.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, digits


class StripReader(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, (8, 3), stride=(1, 2), padding=(0, 1))
        self.gru = nn.GRU(8, 24, batch_first=batch_first)
        self.fc = nn.Linear(24, 3)

    def forward(self, strips: Tensor) -> Tensor:
        columns = torch.relu(self.conv(strips)).squeeze(2).transpose(1, 2)
        out, _ = self.gru(columns)
        return self.fc(out[:, -1])


def strips(count: int) -> tuple[Tensor, Tensor]:
    images, classes = digits()
    images, classes = images[classes < 3], classes[classes < 3]
    shown = torch.randint(len(images), (count, 3))
    return torch.cat(images[shown].unbind(1), 2)[:, None], classes[shown[:, 0]]


def make(faulty: bool) -> Case:
    batches = batched(*strips(32 * 44))
    return classifier(
        StripReader(batch_first=not faulty),
        batches[:36],
        batches[36:],
        accept={"right": {"time and batch swapped"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
        classes=3,
        good=0.85,
    )
