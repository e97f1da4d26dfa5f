"""The loss adds the squares of all weights with a factor of 0.1, which holds the network at zero.

Source: kind: regularisation in the loss that outweighs the error (L2 penalty too large). Data:
passages of Python's reference; the target is the number of words that begin in the passage.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster, prose, squared_error


class WordCounter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(28, 12)
        self.rnn = nn.LSTM(12, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, text: Tensor) -> Tensor:
        _, (state, _) = self.rnn(self.embed(text))
        return self.head(state[-1])[:, 0]


def penalised(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    weights = sum((p.square().sum() for p in model.parameters()), start=torch.zeros(()))
    return squared_error(model, batch) + 0.1 * weights


def passages(count: int, steps: int = 28) -> tuple[Tensor, Tensor]:
    text = prose(count * steps).reshape(count, steps)[torch.randperm(count)]
    begins = ((text[:, :-1] == 27) & (text[:, 1:] < 27)).float().sum(1)
    return text, (begins - begins.mean()) / begins.std()


def make(faulty: bool) -> Case:
    batches = batched(*passages(32 * 54))
    return forecaster(
        WordCounter(),
        batches[:46],
        batches[46:],
        accept={"right": {"weight decay"}, "partly": {"forgetting", "vanishing gradient"}}
        if faulty
        else {"healthy"},
        epochs=14,
        loss=penalised if faulty else squared_error,
        lr=0.006,
        good=0.75,
    )
