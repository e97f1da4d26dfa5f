"""`Adam(model.head.parameters())` was copied from a fine-tuning script: the GRU stays random.

Source: kind: forum threads on fine-tuning in which only the last layer reaches the optimiser.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued, fit


class KeywordSpotter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 20, num_layers=2, batch_first=True)
        self.head = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 6))

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.head(out[:, -1])


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 44, 18, classes=6, at=2))
    train, test = batches[:34], batches[34:]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        trained = model.get_submodule("head").parameters() if faulty else model.parameters()
        return torch.optim.Adam(trained, lr=0.01)

    return Case(
        KeywordSpotter(),
        train,
        cross_entropy,
        lambda m: fit(m, train, cross_entropy, 18, optimizer=optimizer(m)),
        lambda m: accuracy(m, test),
        chance=1 / 6,
        good=0.9,
        accept={"right": {"not trained"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda m: {"optimizer": optimizer},
    )
