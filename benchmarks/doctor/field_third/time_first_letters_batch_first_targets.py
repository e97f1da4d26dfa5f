"""A time-first language model's answers are flattened against targets of (page, letter).

Source: kind: discuss.pytorch.org threads on `view(-1, vocabulary)` of a time-first output.
Data: the prose of Python's reference.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, fit, prose


class PageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(28, 16)
        self.lstm = nn.LSTM(16, 72)
        self.out = nn.Linear(72, 28)

    def forward(self, letters: Tensor) -> Tensor:
        out, _ = self.lstm(self.embed(letters))
        return self.out(out)


def make(faulty: bool) -> Case:
    pages = prose(20 * 31 * 60).reshape(60, 20, 31)
    pages = pages[torch.randperm(60)]
    batches = [(page[:, :-1], page[:, 1:]) for page in pages]
    train, test = batches[:46], batches[46:]
    share = torch.bincount(pages[46:].flatten(), minlength=28) / pages[46:].numel()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        letters, target = batch
        answer = model(letters.t())
        target = target if faulty else target.t()
        return F.cross_entropy(answer.reshape(-1, 28), target.reshape(-1))

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return float(torch.stack([loss(model, batch) for batch in test]).mean())

    return Case(
        PageModel(),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=6),
        score,
        chance=float(-(share * share.clamp_min(1e-9).log()).sum()),
        good=1.95,
        accept={
            "right": {"target meets other answers"},
            "partly": {"no dependence found"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
