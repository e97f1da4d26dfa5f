"""A buffer is filled again without clearing it, and the layer reads past the end of the sequence.

Source: bentrevett/pytorch-sentiment-analysis issue 86, on the last state without packing. Behind
each sequence stand the words of an earlier one; the last state is that of their end.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.doctor.field_case import Case, batched, classifier

STEPS = 24


class CommandClassifier(nn.Module):
    def __init__(self, pack: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 12)
        self.rnn = nn.LSTM(12, 24, batch_first=True)
        self.out = nn.Linear(24, 4)
        self.pack = pack

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        x = self.embedding(words)
        if self.pack:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, (h_n, _) = self.rnn(x)
        return self.out(h_n[-1])


def commands(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a buffer of words, lengths, and the last command word of each sequence."""
    words = torch.randint(4, 20, (count, STEPS))
    command = torch.rand(count, STEPS) < 0.2
    command[:, 1] = True
    words[command] = torch.randint(4, (int(command.sum()),))
    lengths = torch.randint(6, 17, (count,))
    inside = torch.arange(STEPS) < lengths[:, None]
    last = torch.where(command & inside, torch.arange(STEPS), 0).max(1).values
    return words, lengths, words[torch.arange(count), last]


def make(faulty: bool) -> Case:
    batches = batched(*commands(32 * 40))
    return classifier(
        CommandClassifier(pack=not faulty),
        batches[:32],
        batches[32:],
        {"right": {"padding read"}, "partly": {"answer at the wrong step"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        classes=4,
    )
