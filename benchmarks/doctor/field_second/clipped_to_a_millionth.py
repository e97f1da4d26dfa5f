"""The gradient's norm is clipped to 1e-6 before each step of SGD.

Source: mravanelli/pytorch-kaldi issue 154 and Marcovaldong/lstmp.pytorch issue 2, which lower the
norm again and again against NaN. The steps are too short to learn.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy

EPOCHS, STEPS = 14, 30


class PhonemeTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


def frames(count: int) -> tuple[Tensor, Tensor]:
    """Return noise whose loud frames show a class, and for each frame the last class shown."""
    loud, shown = torch.rand(count, STEPS) < 0.2, torch.randint(3, (count, STEPS))
    loud[:, 0] = True
    x = 0.4 * torch.randn(count, STEPS, 3)
    x += 2.5 * nn.functional.one_hot(shown, 3) * loud[..., None]
    return x, shown.gather(1, torch.where(loud, torch.arange(STEPS), 0).cummax(1).values)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)


def make(faulty: bool) -> Case:
    batches = batched(*frames(32 * 40))
    train, test = batches[:32], batches[32:]

    def training_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-6 if faulty else 1.0)
        optimizer.step()

    def fit(model: nn.Module) -> None:
        optimizer = sgd(model)
        for _ in range(EPOCHS):
            for batch in train:
                training_step(model, batch, optimizer)

    return Case(
        PhonemeTagger(),
        train,
        cross_entropy,
        fit,
        lambda model: accuracy(model, test),
        chance=1 / 3,
        good=0.9,
        accept={"right": {"step size"}, "partly": {"not trained", "undertrained"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"training_step": training_step, "optimizer": sgd(model)},
    )
