"""A rectifier before the recurrent layer starts from a bias of -6, and never passes anything.

Source: kind: dangitstam/topic-rnn pull 9, on dying ReLU, and threads on constant outputs.
All units of the front are dead, and no gradient revives them.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class SpectrumReader(nn.Module):
    def __init__(self, bias: float) -> None:
        super().__init__()
        self.front = nn.Conv1d(6, 16, 5, padding=2)
        self.rnn = nn.GRU(16, 24, batch_first=True)
        self.out = nn.Linear(24, 3)
        nn.init.constant_(self.front.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        features = torch.relu(self.front(x.transpose(1, 2))).transpose(1, 2)
        return self.out(self.rnn(features)[1][-1])


def melodies(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return two tones after each other in noise; the class is rising, falling, or the same."""
    x, row = 0.3 * torch.randn(count, steps, 6), torch.arange(count)
    y, low = torch.randint(3, (count,)), torch.randint(4, (count,))
    tones = torch.stack((low, low + 1 + torch.randint(2, (count,))), 1).clamp(max=5)
    tones[y == 1] = tones[y == 1].flip(1)
    tones[y == 2, 1] = tones[y == 2, 0]
    first, second = torch.randint(1, 6, (count,)), torch.randint(9, steps - 1, (count,))
    x[row, first, tones[:, 0]] += 2.5
    x[row, second, tones[:, 1]] += 2.5
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*melodies(32 * 48, 20))
    return classifier(
        SpectrumReader(-6.0 if faulty else 0.0),
        batches[:40],
        batches[40:],
        {"right": {"dead units"}, "partly": {"gradient cut"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
        classes=3,
        good=0.85,
    )
