"""The loss compares the decoder's answers with the words it was given, start token included.

Source: GitHub bentrevett/pytorch-seq2seq#46 (which words meet which outputs in the loss).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, fit

START, WORDS, LENGTH = 0, 7, 4


class Seq2Seq(nn.Module):
    """A GRU that reads the source, and one that says the translation."""

    def __init__(self) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(WORDS, 16)
        self.target_embedding = nn.Embedding(WORDS, 16)
        self.encoder = nn.GRU(16, 48, batch_first=True)
        self.decoder = nn.GRU(16, 48, batch_first=True)
        self.out = nn.Linear(48, WORDS)

    def forward(self, source: Tensor, given: Tensor) -> Tensor:
        _, state = self.encoder(self.source_embedding(source))
        output, _ = self.decoder(self.target_embedding(given), state)
        return self.out(output)

    def translate(self, source: Tensor) -> Tensor:
        """Return the likeliest word at each step, each fed back as the next input."""
        said = torch.full((len(source), 1), START)
        for _ in range(LENGTH):
            said = torch.cat([said, self(source, said)[:, -1:].argmax(-1)], dim=1)
        return said[:, 1:]


def make(faulty: bool) -> Case:
    """Return the program; the translation is the source in reverse."""
    source = torch.randint(1, WORDS, (1536, LENGTH))
    target = torch.cat([torch.full((len(source), 1), START), source.flip(1)], dim=1)
    batches = batched(source, target)
    train, test = batches[:40], batches[40:]

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        source, target = batch
        answers = model(source, target[:, :-1])
        wanted = target[:, :-1] if faulty else target[:, 1:]
        return F.cross_entropy(answers.reshape(-1, WORDS), wanted.reshape(-1))

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        assert isinstance(model, Seq2Seq)
        hits = [(model.translate(s) == t[:, 1:]).float() for s, t in test]
        return float(torch.cat(hits).mean())

    return Case(
        Seq2Seq(),
        train,
        loss_fn,
        lambda model: fit(model, train, loss_fn, epochs=20),
        score,
        chance=1 / (WORDS - 1),
        good=0.9,
        accept={"right": {"target seen"}, "partly": {"no long dependency"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
