"""Early stopping with no patience ends the training on the plateau that the task starts with.

Source: cyprienruffino/CTCModel issue 12, networks that "plateau a bit at the start"; kind: early
stopping. The class is which of two marks came first, and nothing is learnt in the first epochs.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy

EPOCHS = 40


class OrderReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 6)
        self.lstm = nn.LSTM(6, 16, batch_first=True)
        self.out = nn.Linear(16, 2)

    def forward(self, symbols: Tensor) -> Tensor:
        return self.out(self.lstm(self.embedding(symbols))[0][:, -1])


def orders(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return symbols with two marks, each of two kinds, and whether their kinds differ."""
    symbols, row = torch.randint(2, 8, (count, steps)), torch.arange(count)
    first, second = torch.randint(2, (count,)), torch.randint(2, (count,))
    symbols[row, torch.randint(1, 5, (count,))] = first
    symbols[row, torch.randint(10, 14, (count,))] = second
    return symbols, first ^ second


def make(faulty: bool) -> Case:
    batches = batched(*orders(32 * 40, 16))
    train, test = batches[:32], batches[32:]
    patience = 1 if faulty else EPOCHS

    def fit(model: nn.Module) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        best, waited = torch.inf, 0
        for _ in range(EPOCHS):
            total = 0.0
            for batch in train:
                optimizer.zero_grad()
                loss = cross_entropy(model, batch)
                loss.backward()
                optimizer.step()
                total += loss.item() / len(train)
            waited = 0 if total < best - 0.01 else waited + 1
            best = min(best, total)
            if waited == patience:
                return

    return Case(
        OrderReader(),
        train,
        cross_entropy,
        fit,
        lambda model: accuracy(model, test),
        chance=0.5,
        good=0.9,
        accept={"right": {"undertrained"}, "partly": set()} if faulty else {"healthy"},
    )
