"""Batches of one sequence, as in PyTorch's char-rnn tutorial; the faulty GRU gets no state.

A dependence is hard to find in 48 single sequences: an open verdict of the healthy one is fair.

Source: Rebuilt after PyTorch's tutorial "NLP From Scratch", which has batches of one.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued, fit


class SteppedGRU(nn.Module):
    def __init__(self, passed: bool) -> None:
        super().__init__()
        self.passed = passed
        self.rnn = nn.GRU(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, hidden = x, None
        for t in range(x.shape[1]):
            out, new = self.rnn(x[:, t : t + 1], hidden)
            if self.passed:
                hidden = new
        return self.fc(out[:, -1])


def make(faulty: bool) -> Case:
    x, y = cued(512, 10)
    together, train, test = batched(x, y), batched(x, y, size=1), batched(*cued(512, 10))
    dropped = {"right": {"forgetting"}, "partly": {"one-step sequences"}}
    return Case(
        SteppedGRU(not faulty),
        train[:48],
        cross_entropy,
        lambda m: fit(m, together, cross_entropy, 15),
        lambda m: accuracy(m, test),
        0.5,
        0.9,
        dropped if faulty else {"healthy", "inconclusive"},
    )
