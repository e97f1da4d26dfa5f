"""The bias of -4.6 for rare classes goes into every linear layer, also before a ReLU.

Source: kind: the initial bias of the focal-loss paper, set in a loop over `model.modules()`. The
rectified layer between LSTM and answer is zero for all inputs.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class AlarmReader(nn.Module):
    def __init__(self, everywhere: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 20, batch_first=True)
        self.hidden = nn.Linear(20, 20)
        self.out = nn.Linear(20, 4)
        for layer in self.modules():
            if isinstance(layer, nn.Linear) and (everywhere or layer is self.out):
                nn.init.constant_(layer.bias, -4.6)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x)
        return self.out(torch.relu(self.hidden(h[-1])))


def alarms(count: int, steps: int) -> tuple[Tensor, Tensor]:
    y = torch.randint(4, (count,))
    x = 0.5 * torch.randn(count, steps, 4)
    rows = torch.arange(count)
    x[rows, torch.randint(2, 8, (count,)), y] += 4.0
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*alarms(32 * 44, 20))
    return classifier(
        AlarmReader(everywhere=faulty),
        batches[:36],
        batches[36:],
        accept={"right": {"dead units"}, "partly": {"gradient cut"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=24,
        classes=4,
    )
