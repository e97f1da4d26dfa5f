"""The GRU of each sensor lies in a plain dict: `parameters()` holds the head alone.

Source: kind: discuss.pytorch.org 159152, "Loss not decreasing in LSTM network", whose layers lie
in a plain list.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, cross_entropy, cued, fit


class TwoSensors(nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        encoders = {key: nn.GRU(4, 12, batch_first=True) for key in ("wrist", "ankle")}
        self.encoders = encoders if plain else nn.ModuleDict(encoders)
        self.head = nn.Linear(24, 4)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        states = [self.encoders[key](x[key])[1][-1] for key in ("wrist", "ankle")]
        return self.head(torch.cat(states, 1))


def recordings(count: int) -> list[tuple[dict[str, Tensor], Tensor]]:
    batches = []
    for _ in range(count):
        wrist, left = cued(32, 20, at=1)
        ankle, right = cued(32, 20, at=4)
        batches.append(({"wrist": wrist, "ankle": ankle}, 2 * left + right))
    return batches


def make(faulty: bool) -> Case:
    train, test = recordings(36), recordings(10)
    return Case(
        TwoSensors(plain=faulty),
        list(train),
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=20),
        lambda model: accuracy(model, test),
        chance=0.25,
        good=0.9,
        accept={"right": {"not trained"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {
            "optimizer": lambda m: torch.optim.Adam(m.parameters(), lr=0.01),
        },
    )
