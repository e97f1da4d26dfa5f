"""The scores of the ten digits pass through a ReLU before the cross-entropy.

Source: GitHub David-Durst/csknow#2, "Comments from a squirrel" (a ReLU after the last layer).
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, digits


class RowReader(nn.Module):
    """An LSTM over the rows of a digit and two dense layers."""

    def __init__(self, relu_at_the_end: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.fc1 = nn.Linear(32, 24)
        self.fc2 = nn.Linear(24, 10)
        self.relu_at_the_end = relu_at_the_end

    def forward(self, image: Tensor) -> Tensor:
        _, (h, _) = self.lstm(image)
        x = torch.relu(self.fc1(h[-1]))
        x = self.fc2(x)
        return torch.relu(x) if self.relu_at_the_end else x


def make(faulty: bool) -> Case:
    """Return the program; the faulty one has a ReLU on the scores."""
    images, classes = digits()
    batches = batched(images, classes)
    return classifier(
        RowReader(relu_at_the_end=faulty),
        batches[:40],
        batches[40:],
        {
            "right": {"answers do not fit the loss", "dead units"},
            "partly": set(),
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        classes=10,
        lr=0.02,
        good=0.88,
    )
