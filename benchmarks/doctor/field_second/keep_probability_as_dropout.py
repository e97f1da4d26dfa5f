"""A probability to keep words, 0.9, is given to a layer that drops words with it.

Source: titu1994/LSTM-FCN issue 10 on a dropout of 0.8; kind: TensorFlow's `keep_prob` in PyTorch.
The class needs two words together, and both are left in one sentence of a hundred.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

WORDS, FEELING, NEGATION = 24, 2, 4


class ReviewClassifier(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.word_dropout = nn.Dropout1d(dropout)
        self.rnn = nn.LSTM(12, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, 2)

    def forward(self, words: Tensor) -> Tensor:
        states, _ = self.rnn(self.word_dropout(self.embedding(words)))
        return self.out(states.amax(1))


def reviews(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return sentences with a word of feeling and one of two words that turn it or not."""
    words = torch.randint(NEGATION + 2, WORDS, (count, steps))
    row, at = torch.arange(count), torch.randint(4, steps, (count,))
    feeling, turned = torch.randint(2, (count,)), torch.randint(2, (count,))
    words[row, at] = FEELING + feeling
    words[row, at - torch.randint(1, 5, (count,))] = NEGATION + turned
    return words, feeling ^ turned


def make(faulty: bool) -> Case:
    batches = batched(*reviews(32 * 52, 18))
    return classifier(
        ReviewClassifier(0.9 if faulty else 0.1),
        batches[:44],
        batches[44:],
        {"right": {"dropout"}, "partly": set()} if faulty else {"healthy", "no long dependency"},
        epochs=16,
        good=0.85,
    )
