"""A layer of one direction tags words by the mark that ends their sentence, which it reads later.

Source: kind: threads of the form "the accuracy of my LSTM tagger does not rise".
The answer is given before its input; the second direction reads it.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

STATEMENT, QUESTION, WORDS = 1, 2, 30


class MoodTagger(nn.Module):
    def __init__(self, bidirectional: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 10)
        self.rnn = nn.LSTM(10, 20, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(40 if bidirectional else 20, 2)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.rnn(self.embedding(words))[0])


def dialogues(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return words with rare marks, and whether the next mark is a question mark."""
    words = torch.randint(3, WORDS, (count, steps))
    mark = torch.rand(count, steps) < 0.08
    mark[:, -1] = True
    words[mark] = torch.randint(STATEMENT, QUESTION + 1, (int(mark.sum()),))
    index = torch.where(mark, torch.arange(steps), steps)
    following = index.flip(1).cummin(1).values.flip(1)
    return words, (words.gather(1, following) == QUESTION).long()


def make(faulty: bool) -> Case:
    batches = batched(*dialogues(32 * 40, 36))
    return classifier(
        MoodTagger(bidirectional=not faulty),
        batches[:32],
        batches[32:],
        {
            "right": {"answer at the wrong step", "no dependence found"},
            "partly": {"no long dependency"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=8,
    )
