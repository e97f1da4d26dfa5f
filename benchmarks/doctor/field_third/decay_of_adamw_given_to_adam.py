"""`weight_decay=0.1`, meant for AdamW, is given to Adam: the penalty outweighs the gradient.

Source: kind: pytorch/pytorch issues on the difference of AdamW's decay and Adam's L2 penalty.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued, fit


class EventReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inp = nn.Linear(4, 12)
        self.gru = nn.GRU(12, 24, batch_first=True)
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(torch.tanh(self.inp(x)))
        return self.out(out[:, -1])


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 46, 18, classes=3, at=2))
    train, test = batches[:36], batches[36:]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if faulty else torch.optim.AdamW
        return kind(model.parameters(), lr=0.01, weight_decay=0.1)

    return Case(
        EventReader(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, 16, optimizer=optimizer(model)),
        lambda model: accuracy(model, test),
        chance=1 / 3,
        good=0.9,
        accept={"right": {"weight decay"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"optimizer": optimizer},
    )
