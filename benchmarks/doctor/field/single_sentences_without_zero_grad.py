"""Batches of one sentence each, as in the tutorial of the tagger, without `zero_grad`.

Source: PyTorch's tutorial "Sequence Models and LSTM Networks" (one sentence a step), and Stack
Overflow 48001598, "Why do we need to call zero_grad() in PyTorch?".
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case


class LSTMTagger(nn.Module):
    def __init__(self, embedding_dim: int, hidden_dim: int, vocab: int, tagset: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim)
        self.hidden2tag = nn.Linear(hidden_dim, tagset)

    def forward(self, sentence: Tensor) -> Tensor:
        embeds = self.word_embeddings(sentence)
        lstm_out, _ = self.lstm(embeds.view(len(sentence), 1, -1))
        return F.log_softmax(self.hidden2tag(lstm_out.view(len(sentence), -1)), dim=1)


def sentence() -> tuple[Tensor, Tensor]:
    """A word below 6 may be a noun or a verb: it is a noun after an article, however far back."""
    length = int(torch.randint(40, 60, ()))
    words = torch.randint(0, 12, (length,))
    tags, article = [], False
    for word in words.tolist():
        article = True if word in (6, 7) else False if word in (8, 9) else article
        tags.append(2 if word > 5 else int(article))
    return words, torch.tensor(tags)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    words, tags = batch
    return F.nll_loss(model(words), tags)


def make(faulty: bool) -> Case:
    train, test = [sentence() for _ in range(48)], [sentence() for _ in range(30)]

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> None:
        if not faulty:
            optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.3)

    def train_it(model: nn.Module) -> None:
        optimizer = sgd(model)
        for _ in range(20):
            for batch in train:
                step(model, optimizer, batch)

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            right = [(model(x).argmax(1) == y)[x < 6].float().mean() for x, y in test]
        return float(torch.stack(right).mean())

    return Case(
        LSTMTagger(12, 16, 12, 3),
        train,
        loss,
        train_it,
        score,
        chance=0.5,
        good=0.95,
        accept={"right": {"gradients not zeroed"}, "partly": {"step size", "exploding gradient"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"training_step": step, "optimizer": sgd(model)},
    )
