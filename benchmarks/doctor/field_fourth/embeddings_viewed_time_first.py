"""The embeddings of a batch of texts are viewed as (words, batch, features) and not transposed.

Source: GitHub jiangqy/LSTM-Classification-pytorch#1 (the view of the embeddings), and
EdGENetworks/attention-networks-for-classification#13.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

WORDS, LENGTH = 60, 18


class LSTMClassifier(nn.Module):
    """An LSTM that wants time first, over the embeddings of a text."""

    def __init__(self, embedding_dim: int, hidden_dim: int, label_size: int, view: bool) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(WORDS, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim)
        self.hidden2label = nn.Linear(hidden_dim, label_size)
        self.view = view

    def forward(self, sentences: Tensor) -> Tensor:
        batch, length = sentences.shape
        embeds = self.word_embeddings(sentences)
        x = embeds.view(length, batch, -1) if self.view else embeds.transpose(0, 1)
        lstm_out, _ = self.lstm(x)
        return self.hidden2label(lstm_out[-1])


def texts(count: int) -> tuple[Tensor, Tensor]:
    """Return texts with two words of one of three groups of six, and the group."""
    label = torch.randint(3, (count,))
    words = torch.randint(18, WORDS, (count, LENGTH))
    places = torch.rand(count, LENGTH).argsort(1)[:, :2]
    return words.scatter(1, places, 6 * label[:, None] + torch.randint(6, (count, 2))), label


def make(faulty: bool) -> Case:
    """Return the program; the faulty one views the embeddings."""
    batches = batched(*texts(1280))
    return classifier(
        LSTMClassifier(16, 32, 3, view=faulty),
        batches[:32],
        batches[32:],
        {"right": {"samples mixed", "time and batch swapped"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        classes=3,
    )
