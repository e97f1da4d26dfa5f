"""Every digit is filled up with sixty steps of zeros behind it, and a plain layer reads them last.

Source: ybabakhin/mckinsey issue 1, "why did you choose post padding"; kind: a network at chance.
The healthy program puts the zeros in front.
Data: handwritten digits, half a row of pixels a step.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, digits


class HalfRowReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(4, 48, batch_first=True)
        self.out = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def make(faulty: bool) -> Case:
    images, classes = digits()
    x, zeros = images.reshape(-1, 16, 4), torch.zeros(len(images), 60, 4)
    batches = batched(torch.cat((x, zeros) if faulty else (zeros, x), 1), classes)
    return classifier(
        HalfRowReader(),
        batches[:44],
        batches[44:],
        {
            "right": {"padding read", "vanishing gradient"},
            "partly": {"forgetting", "answer at the wrong step"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        classes=10,
        lr=0.003,
        good=0.85,
    )
