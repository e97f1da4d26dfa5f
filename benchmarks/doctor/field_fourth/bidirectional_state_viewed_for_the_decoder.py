"""The two final states of an encoder are viewed as one wide state for the decoder.

Source: GitHub timbmg/Sentence-VAE#15 (the state is viewed, and batch is its second axis), and
bentrevett/pytorch-seq2seq#115.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

START, SIGNS, LENGTH = 0, 9, 5


class Transliterator(nn.Module):
    """A bidirectional encoder and a decoder of twice its width."""

    def __init__(self, concatenate: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(SIGNS, 16)
        self.encoder = nn.GRU(16, 24, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(16, 48, batch_first=True)
        self.fc_out = nn.Linear(48, SIGNS)
        self.concatenate = concatenate

    def forward(self, source: Tensor, given: Tensor) -> Tensor:
        _, hidden = self.encoder(self.embed(source))
        if self.concatenate:
            state = torch.cat([hidden[0], hidden[1]], dim=1).unsqueeze(0)
        else:
            state = hidden.view(1, len(source), -1)
        output, _ = self.decoder(self.embed(given), state)
        return self.fc_out(output)


def make(faulty: bool) -> Case:
    """Return the program; each sign is written as another one, in the same order."""
    source = torch.randint(1, SIGNS, (1536, LENGTH))
    target = 1 + (source + 2) % (SIGNS - 1)
    given = torch.cat([torch.full((len(source), 1), START), target[:, :-1]], dim=1)
    batches = batched(source, given, target)
    return classifier(
        Transliterator(concatenate=not faulty),
        batches[:40],
        batches[40:],
        {"right": {"samples mixed"}, "partly": {"time and batch swapped"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
        classes=SIGNS - 1,
        good=0.85,
    )
