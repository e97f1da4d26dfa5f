"""Answers of shape (32, 1) meet star ratings of shape (32,) in the squared error: all with all.

Source: kind: PyTorch's warning on a target size that differs from the input size, in many forum
threads on networks that predict the mean.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, fit


class StarReader(nn.Module):
    def __init__(self, squeezes: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.lstm = nn.LSTM(8, 20, batch_first=True)
        self.fc = nn.Linear(20, 1)
        self.squeezes = squeezes

    def forward(self, words: Tensor) -> Tensor:
        _, (h, _) = self.lstm(self.embed(words))
        stars = self.fc(h[-1])
        return stars.squeeze(1) if self.squeezes else stars


def reviews(count: int, words: int) -> tuple[Tensor, Tensor]:
    """The stars are the sum of the opinions in the first half of the review."""
    x = torch.randint(10, 50, (count, words))
    shown = torch.randint(5, (count, 2))
    x[torch.arange(count), torch.randint(1, 5, (count,))] = shown[:, 0]
    x[torch.arange(count), torch.randint(5, 9, (count,))] = shown[:, 1]
    return x, (shown.sum(1) - 4).float() / 2


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    words, stars = batch
    return (model(words) - stars).square().mean()


def make(faulty: bool) -> Case:
    batches = batched(*reviews(32 * 46, 18))
    train, test = batches[:38], batches[38:]
    return Case(
        StarReader(squeezes=not faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=10),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.85,
        accept={
            "right": {"target meets other answers"},
            "partly": {"answers do not fit the loss"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
