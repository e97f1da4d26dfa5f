"""A ReLU network adds numbers over 60 steps without clipping: the loss becomes NaN.

Source: lstmp.pytorch issue 2; pytorch issue 2769.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class AddingRNN(nn.Module):
    def __init__(self, spread: float) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 48, nonlinearity="relu", batch_first=True)
        self.fc = nn.Linear(48, 1)
        self.rnn.load_state_dict(
            {"weight_hh_l0": torch.eye(48) + spread * torch.randn(48, 48)}, strict=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1]).squeeze(1)


def additions(count: int) -> list[tuple[Tensor, Tensor]]:
    """Numbers and marks; the target is the sum of the two marked numbers."""
    x, rows = torch.zeros(count, 60, 2), torch.arange(count)
    x[..., 0] = torch.rand(count, 60)
    first, second = torch.randint(30, (count,)), torch.randint(30, 60, (count,))
    x[rows, first, 1] = x[rows, second, 1] = 1
    return batched(x, x[rows, first, 0] + x[rows, second, 0])


def make(faulty: bool) -> Case:
    train, test = additions(1024), additions(512)

    def fit(model: nn.Module) -> None:
        make_optimizer = torch.optim.SGD if faulty else torch.optim.Adam
        optimizer = make_optimizer(model.parameters(), lr=0.05 if faulty else 0.002)
        for _ in range(2 if faulty else 50):
            for x, y in train:
                optimizer.zero_grad()
                F.mse_loss(model(x), y).backward()
                if not faulty:
                    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()

    return Case(
        AddingRNN(0.05 if faulty else 0.003),
        train,
        squared_error,
        fit,
        lambda m: explained(m, test),
        0.0,
        0.8,
        {"right": {"exploding gradient"}, "partly": {"step size"}} if faulty else {"healthy"},
    )
