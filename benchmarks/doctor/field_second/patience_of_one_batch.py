"""Early stopping looks at each batch with a patience of one, so that training ends at once.

Source: GoogleCloudPlatform/ml-design-patterns issue 30, raise the patience of early stopping. Data:
passages of Python's reference; the target is the share of vowels, a character a step.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, prose, squared_error

VOWELS = (1, 5, 9, 15, 21)


class VowelCounter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(28, 12)
        self.rnn = nn.GRU(12, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, text: Tensor) -> Tensor:
        output, _ = self.rnn(self.embed(text))
        return self.head(output[:, -1])[:, 0]


def passages(count: int, steps: int = 30) -> tuple[Tensor, Tensor]:
    text = prose(count * steps).reshape(count, steps)[torch.randperm(count)]
    vowels = torch.isin(text, torch.tensor(VOWELS)).float().sum(1)
    return text, (vowels - vowels.mean()) / vowels.std()


def make(faulty: bool) -> Case:
    batches = batched(*passages(32 * 54))
    train, test = batches[:46], batches[46:]

    def fit(model: nn.Module) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        patience, best, waited = 1 if faulty else 200, float("inf"), 0
        for _ in range(16):
            for i in torch.randperm(len(train)).tolist():
                optimizer.zero_grad()
                loss = squared_error(model, train[i])
                loss.backward()
                optimizer.step()
                waited = 0 if loss.item() < best else waited + 1
                best = min(best, loss.item())
                if waited >= patience:
                    return

    return Case(
        VowelCounter(),
        train,
        squared_error,
        fit,
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"undertrained"}, "partly": {"not trained"}} if faulty else {"healthy"},
    )
