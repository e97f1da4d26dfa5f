"""The targets of a language model are its inputs: nobody shifted them by one.

Source: songlab-cal/tape, issue 32, "Language modeling targets": inputs and targets are the same,
and the loss falls to zero quickly. Data: Python's reference. The cell runs in a loop.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, fit, prose

T = 25


class CharLSTM(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.embed = nn.Embedding(28, hidden)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.logits = nn.Linear(hidden, 28)

    def forward(self, tokens: Tensor) -> Tensor:
        h = c = torch.zeros(len(tokens), self.hidden)
        outputs = []
        for token in tokens.unbind(1):
            h, c = self.cell(self.embed(token), (h, c))
            outputs.append(self.logits(h))
        return torch.stack(outputs, 1)


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch["input"]).flatten(0, 1), batch["target"].flatten())


def make(faulty: bool) -> Case:
    text = prose((T + 1) * 48 * 40).view(-1, T + 1)
    text = text[torch.randperm(len(text))]
    chunks = text.split(48)
    target = slice(0, -1) if faulty else slice(1, None)
    train = [{"input": c[:, :-1], "target": c[:, target]} for c in chunks[:32]]
    test = torch.cat(chunks[32:])

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(test[:, :-1]).argmax(-1) == test[:, 1:]).float().mean())

    return Case(
        CharLSTM(40),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=10, lr=0.01),
        score,
        chance=0.25,
        good=0.5,
        accept={"right": {"target seen"}, "partly": {"no long dependency"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
