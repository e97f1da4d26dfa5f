"""The maps of a CNN, (batch, channel, row, column), are reshaped to (column, batch, features).

Source: Sierkinhane/CRNN_Chinese_Characters_Rec issue 232 and qjadud1994/CRNN-Keras issue 29, on the
reshape between CNN and RNN. Without a permute each step holds pieces of other images.
Data: handwritten digits, each column of pixels twice.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, digits


class ConvRecurrent(nn.Module):
    def __init__(self, permute: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.pool = nn.MaxPool2d((2, 1))
        self.rnn = nn.GRU(24, 32)
        self.out = nn.Linear(32, 10)
        self.permute = permute

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool(torch.relu(self.conv(images)))
        batch, channels, rows, columns = maps.shape
        if self.permute:
            maps = maps.permute(3, 0, 1, 2)
        output, _ = self.rnn(maps.reshape(columns, batch, channels * rows))
        return self.out(output[-1])


def make(faulty: bool) -> Case:
    images, classes = digits()
    batches = batched(images.repeat_interleave(2, 2)[:, None], classes)
    return classifier(
        ConvRecurrent(permute=not faulty),
        batches[:44],
        batches[44:],
        {"right": {"samples mixed"}, "partly": {"time and batch swapped"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=8,
        classes=10,
    )
