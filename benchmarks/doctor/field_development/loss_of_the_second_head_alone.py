"""Two heads; the second loss overwrites the first (`=` for `+=`), and reads no recurrent output.

Source: kind: stackoverflow, multi-task losses in which one task does not train.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, fit

Batch = dict[str, Tensor]


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 16)
        self.rnn = nn.LSTM(16, 24, batch_first=True)
        self.intent = nn.Linear(24, 3)
        self.now = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        embedded = self.embed(x).tanh()
        hidden, _ = self.rnn(embedded)
        return {"intent": self.intent(hidden[:, -1]), "now": self.now(embedded).squeeze(-1)}


def batches(count: int) -> list[Batch]:
    made = []
    for _ in range(count):
        x, intent = 0.5 * torch.randn(32, 15, 5), torch.randint(3, (32,))
        x[torch.arange(32), 4, intent] += 4
        made.append({"x": x, "intent": intent, "now": x[..., 4].sign()})
    return made


def make(faulty: bool) -> Case:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        answers = model(batch["x"])
        total = F.cross_entropy(answers["intent"], batch["intent"])
        second = F.mse_loss(answers["now"], batch["now"])
        return second if faulty else total + second

    train, test = batches(32), batches(8)

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        right = [(model(b["x"])["intent"].argmax(-1) == b["intent"]).float().mean() for b in test]
        return float(torch.stack(right).mean())

    return Case(
        TwoHeads(),
        train,
        loss,
        lambda m: fit(m, train, loss, epochs=24),
        score,
        1 / 3,
        0.9,
        {"right": {"not trained"}, "partly": set()} if faulty else {"healthy"},
    )
