"""A tagger runs a second LSTM over the reversed sentence and does not reverse its outputs.

Source: GitHub keras-team/keras#3448, and qjadud1994/CRNN-Keras#26, "Bi-LTSM's implementation".
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

TAGS, WORDS, LENGTH = 4, 24, 16


class TwoWayTagger(nn.Module):
    """One LSTM in each direction, joined at each word."""

    def __init__(self, flip_back: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.lstm_1 = nn.LSTM(16, 20, batch_first=True)
        self.lstm_1b = nn.LSTM(16, 20, batch_first=True)
        self.tag = nn.Linear(40, TAGS)
        self.flip_back = flip_back

    def forward(self, sentence: Tensor) -> Tensor:
        x = self.embedding(sentence)
        forward, _ = self.lstm_1(x)
        backward, _ = self.lstm_1b(x.flip(1))
        if self.flip_back:
            backward = backward.flip(1)
        return self.tag(torch.cat([forward, backward], dim=2))


def make(faulty: bool) -> Case:
    """Return the program; the tag of a word is the kind of the word that follows it."""
    sentence = torch.randint(WORDS, (1280, LENGTH))
    tags = torch.cat([sentence[:, 1:] % TAGS, torch.zeros(1280, 1, dtype=torch.long)], dim=1)
    batches = batched(sentence, tags)
    return classifier(
        TwoWayTagger(flip_back=not faulty),
        batches[:32],
        batches[32:],
        {"right": {"answer at the wrong step"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        classes=TAGS,
    )
