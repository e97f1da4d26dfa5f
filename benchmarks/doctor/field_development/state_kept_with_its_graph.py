"""self.hidden = h, not detached: "Trying to backward through the graph a second time".

The user's training stops at its second batch.

Source: Rebuilt from reports of this error message with a hidden state that is kept.
"""

import contextlib

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued, fit


class Classifier(nn.Module):
    def __init__(self, kept: bool) -> None:
        super().__init__()
        self.kept = kept
        self.rnn = nn.GRU(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)
        self.hidden: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out, hidden = self.rnn(x, self.hidden)
        if self.kept:
            self.hidden = hidden
        return self.fc(out[:, -1])


def make(faulty: bool) -> Case:
    train, test = batched(*cued(1024, 12)), batched(*cued(512, 12))

    def try_fit(model: nn.Module) -> None:
        with contextlib.suppress(RuntimeError):
            fit(model, train, cross_entropy, 10)

    return Case(
        Classifier(faulty),
        train,
        cross_entropy,
        try_fit,
        lambda m: accuracy(m, test),
        0.5,
        0.9,
        {"right": {"state leak"}, "partly": set()} if faulty else {"healthy"},
    )
