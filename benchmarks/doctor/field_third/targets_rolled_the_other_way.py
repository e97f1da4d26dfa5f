"""`torch.roll(x, 1)` makes the targets of a language model: the preceding letter, already read.

Source: kind: threads on language models whose loss falls to zero while samples are nonsense.
Data: the prose of Python's reference. The score is the loss of the following letter.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, cross_entropy, fit, prose


class LetterModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(28, 16)
        self.gru = nn.GRU(16, 64, batch_first=True)
        self.out = nn.Linear(64, 28)

    def forward(self, letters: Tensor) -> Tensor:
        out, _ = self.gru(self.embed(letters))
        return self.out(out)


def make(faulty: bool) -> Case:
    pages = prose(24 * 33 * 56).reshape(56, 24, 33)
    pages = pages[torch.randperm(56)]
    train = [
        (page[:, :-1], torch.roll(page, 1, 1)[:, :-1] if faulty else page[:, 1:])
        for page in pages[:44]
    ]
    test = pages[44:]
    share = torch.bincount(test.flatten(), minlength=28) / test.numel()

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            losses = [F.cross_entropy(model(p[:, :-1]).transpose(1, 2), p[:, 1:]) for p in test]
        return float(torch.stack(losses).mean())

    return Case(
        LetterModel(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=6),
        score,
        chance=float(-(share * share.clamp_min(1e-9).log()).sum()),
        good=1.9,
        accept={"right": {"target seen"}, "partly": {"answer at the wrong step"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
