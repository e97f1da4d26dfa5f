"""The last step of the padded output is read; behind a short packed sentence it is zero.

Source: GitHub keitakurita/practical-torchtext#5, "Last timestep output in the text classifier
wrong?", and thtrieu/qclass_dl#1.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit

CLASSES, WORDS, LONGEST = 4, 60, 24


class QuestionClassifier(nn.Module):
    """A packed LSTM over the words of a question."""

    def __init__(self, read_last_column: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.out = nn.Linear(32, CLASSES)
        self.read_last_column = read_last_column

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embed(words), lengths, batch_first=True, enforce_sorted=False
        )
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        if self.read_last_column:
            last = output[:, -1]
        else:
            last = output[torch.arange(len(words)), lengths - 1]
        return self.out(last)


def questions(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return questions of 5 to 24 words, their lengths, and the class that their first word sets.

    The words 1 to 12 are three for each class.
    """
    lengths = torch.randint(5, LONGEST + 1, (count,))
    kind = torch.randint(CLASSES, (count,))
    words = torch.randint(13, WORDS, (count, LONGEST))
    words[:, 0] = 1 + 3 * kind + torch.randint(3, (count,))
    return words * (torch.arange(LONGEST) < lengths[:, None]), lengths, kind


def make(faulty: bool) -> Case:
    """Return the program; the faulty one reads the last column for all questions."""
    batches = batched(*questions(1280))
    train, test = batches[:32], batches[32:]
    return Case(
        QuestionClassifier(read_last_column=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=12),
        lambda model: accuracy(model, test),
        chance=1 / CLASSES,
        good=0.9,
        accept={"right": {"padding read", "answer at the wrong step"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
