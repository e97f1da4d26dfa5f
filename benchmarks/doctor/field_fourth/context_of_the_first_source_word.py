"""The decoder gets the encoder's output at the first word of the source, not at the last.

Kind: the wrong index on the time axis of the encoder's outputs; GitHub Atcold/NYU-DLSP20#19 is a
thread on which end of the outputs is read.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

WORDS, LENGTH, SAID = 6, 8, 3


class Summarizer(nn.Module):
    """An LSTM encoder whose context is given to every step of the decoder."""

    def __init__(self, read_at: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.encoder = nn.LSTM(12, 40, batch_first=True)
        self.decoder = nn.LSTM(40, 40, batch_first=True)
        self.linear = nn.Linear(40, WORDS)
        self.read_at = read_at

    def forward(self, source: Tensor) -> Tensor:
        encoder_outputs, _ = self.encoder(self.embedding(source))
        context = encoder_outputs[:, self.read_at]
        output, _ = self.decoder(context.unsqueeze(1).expand(-1, SAID, -1))
        return self.linear(output)


def make(faulty: bool) -> Case:
    """Return the program; the summary is the fourth, fifth and sixth word of eight."""
    source = torch.randint(WORDS, (1536, LENGTH))
    batches = batched(source, source[:, 3:6])
    return classifier(
        Summarizer(read_at=0 if faulty else -1),
        batches[:40],
        batches[40:],
        {"right": {"answer at the wrong step"}, "partly": {"no dependence found"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
        classes=WORDS,
        good=0.85,
    )
