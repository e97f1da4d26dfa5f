"""Every weight is drawn by nn.init.uniform_ without bounds, which are 0 and 1.

Kind: an initialisation loop over all parameters with the default bounds; GitHub
keras-team/keras#126 is a thread on a model with uniform weights that makes no progress.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, digits


class DigitRNN(nn.Module):
    """An RNN over the rows of a digit."""

    def __init__(self, hidden_size: int, bound: float | None) -> None:
        super().__init__()
        self.rnn = nn.RNN(8, hidden_size, num_layers=2, batch_first=True)
        self.fc = nn.Linear(hidden_size, 10)
        for parameter in self.rnn.parameters():
            if bound is None:
                nn.init.uniform_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)

    def forward(self, rows: Tensor) -> Tensor:
        out, _ = self.rnn(rows)
        return self.fc(out[:, -1])


def make(faulty: bool) -> Case:
    """Return the program; the right one draws from -0.1 to 0.1."""
    batches = batched(*digits())
    return classifier(
        DigitRNN(64, bound=None if faulty else 0.1),
        batches[:40],
        batches[40:],
        {"right": {"saturated"}, "partly": {"exploding gradient", "vanishing gradient"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        classes=10,
        lr=0.003,
        good=0.88,
    )
