"""h_n.view(batch, 2 * hidden) of a bidirectional LSTM joins the states of different samples.

Source: nlp-tutorial issue 38; fairseq issue 239; OpenNMT-py issue 1521.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class TextClassifier(nn.Module):
    def __init__(self, viewed: bool) -> None:
        super().__init__()
        self.viewed = viewed
        self.embedding = nn.Embedding(20, 16)
        self.lstm = nn.LSTM(16, 32, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(64, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(self.embedding(tokens))
        if self.viewed:
            return self.fc(hidden.view(-1, 64))
        return self.fc(torch.cat([hidden[0], hidden[1]], dim=1))


def sentences(count: int) -> list[tuple[Tensor, Tensor]]:
    """Sentences of 15 words in which the word 0 or 1, somewhere, decides."""
    tokens, target = torch.randint(2, 20, (count, 15)), torch.randint(2, (count,))
    tokens[torch.arange(count), torch.randint(15, (count,))] = target
    return batched(tokens, target)


def make(faulty: bool) -> Case:
    train, test = sentences(1024), sentences(512)
    mixed = {"right": {"samples mixed"}, "partly": set[str]()}
    return classifier(TextClassifier(faulty), train, test, mixed if faulty else {"healthy"})
