"""A text is folded for a language model with `view(-1, batch)`, so that time runs across it.

Source: kind: pytorch/examples word_language_model, on its `batchify`. One step jumps 32
characters; the next character of the column says nothing of the one before.
Data: Python's own reference, as letters.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, cross_entropy, fit, prose

BATCH, STEPS, CHUNKS = 32, 30, 42


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(28, 16)
        self.rnn = nn.GRU(16, 64, batch_first=True)
        self.out = nn.Linear(64, 28)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.embedding(x))[0])


def nats(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Return the cross-entropy of a character."""
    losses = [F.cross_entropy(a.flatten(0, 1), y.flatten()) for a, y in answers(model, batches)]
    return float(sum(losses)) / len(losses)


def make(faulty: bool) -> Case:
    text = prose(BATCH * (STEPS * CHUNKS + 1))
    columns = text.view(-1, BATCH).t() if faulty else text.view(BATCH, -1)
    batches = [
        (columns[:, i : i + STEPS], columns[:, i + 1 : i + STEPS + 1])
        for i in range(0, STEPS * CHUNKS, STEPS)
    ]
    train, test = batches[:36], batches[36:]
    return Case(
        LanguageModel(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=10),
        lambda model: nats(model, test),
        chance=2.85,
        good=1.8,
        accept={"right": {"time and batch swapped", "no dependence found"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
