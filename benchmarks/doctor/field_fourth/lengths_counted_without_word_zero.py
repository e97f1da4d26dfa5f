"""The length is the count of words other than 0, but 0 is the number of the commonest word too.

Kind: numbers that start at 0 while 0 is the padding; GitHub nyu-mll/jiant#925 is a thread on a
zero that means padding and a class.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

WORDS, LONGEST, CLASSES = 40, 22, 4


class CommandReader(nn.Module):
    """A GRU that is read at the last word of a command."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS + 1, 16)
        self.gru = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        lengths = (words != 0).sum(dim=1)
        out, _ = self.gru(self.embed(words))
        last = (lengths - 1).clamp(min=0)
        return self.head(out[torch.arange(len(words)), last])


def commands(count: int) -> tuple[list[list[int]], Tensor]:
    """Return commands of 12 to 22 words and their classes.

    Two words in five are the word 0. The last word but one is one of four for the class.
    """
    rows, classes = [], torch.randint(CLASSES, (count,))
    for kind in classes.tolist():
        length = int(torch.randint(12, LONGEST + 1, ()))
        row = torch.randint(17, WORDS, (length,)) * (torch.rand(length) > 0.4)
        row[-2] = 1 + 4 * kind + torch.randint(4, ())
        row[-1] = 17
        rows.append(row.tolist())
    return rows, classes


def make(faulty: bool) -> Case:
    """Return the program; the right one gives the first word the number 1."""
    rows, classes = commands(1280)
    first = 0 if faulty else 1
    words = torch.tensor([[w + first for w in r] + [0] * (LONGEST - len(r)) for r in rows])
    batches = batched(words, classes)
    return classifier(
        CommandReader(),
        batches[:32],
        batches[32:],
        {
            "right": {"answer at the wrong step"},
            "partly": {"no dependence found", "padding read"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        classes=CLASSES,
    )
