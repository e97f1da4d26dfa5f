"""An init loop zeroes all biases of an LSTM: its forget gate keeps half of the cell at each step.

Source: kind: Lasagne/Recipes issue 6, "initialize the forget gate to something large". The twin
sets the bias of the forget gate to 4.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class LongRecord(nn.Module):
    def __init__(self, forget_bias: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 20, batch_first=True)
        self.fc = nn.Linear(20, 2)
        for name, parameter in self.lstm.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
        nn.init.constant_(self.lstm.bias_ih_l0[20:40], forget_bias)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x)
        return self.fc(h[-1])


def records(count: int, steps: int) -> tuple[Tensor, Tensor]:
    y = torch.randint(2, (count,))
    x = torch.randn(count, steps, 3)
    x[:, :5, 0] += 2.0 * (2 * y[:, None] - 1)
    x[:, :5, 2] += 2.0
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*records(32 * 40, 130))
    return classifier(
        LongRecord(0.0 if faulty else 4.0),
        batches[:32],
        batches[32:],
        accept={"right": {"forgetting", "vanishing gradient"}, "partly": set()}
        if faulty
        else {"healthy"},
        epochs=6,
    )
