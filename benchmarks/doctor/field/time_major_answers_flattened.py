"""The answers are (time, batch, classes) and the targets (batch, time); both are flattened.

Source: graykode/nlp-tutorial and u784799i/biLSTM_attn, issue 3: a reshape in the place of a
permute, here between a time-first tagger and its targets.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, fit

DEPTHS = 5


class BracketTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(3, 8)
        self.rnn = nn.LSTM(8, 24)
        self.out = nn.Linear(24, DEPTHS)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.rnn(self.embed(tokens.t()))
        return self.out(hidden)  # (time, batch, classes)


def brackets(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """An opening bracket is 0, a closing one 1, a letter 2; the target is the depth."""
    moves = torch.randint(3, (count, steps))
    depth = torch.zeros(count, dtype=torch.long)
    tokens, depths = [], []
    for move in moves.unbind(1):
        opens = (move == 0) & (depth < DEPTHS - 1)
        closes = (move == 1) & (depth > 0)
        depth = depth + opens.long() - closes.long()
        tokens.append(torch.where(opens, 0, torch.where(closes, 1, 2)))
        depths.append(depth)
    return torch.stack(tokens, 1), torch.stack(depths, 1)


def make(faulty: bool) -> Case:
    batches = batched(*brackets(16 * 40, 30), size=16)
    train, test = batches[:32], batches[32:]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        tokens, depths = batch
        scores = model(tokens) if faulty else model(tokens).transpose(0, 1)
        return F.cross_entropy(scores.reshape(-1, DEPTHS), depths.reshape(-1))

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            right = [(model(x).argmax(-1).t() == y).float().mean() for x, y in test]
        return float(torch.stack(right).mean())

    return Case(
        BracketTagger(),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=12, lr=0.02),
        score,
        chance=0.33,
        good=0.95,
        accept={"right": {"target meets other answers"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy"},
    )
