"""A policy drops half of the state of its GRU cell at every step of the loop.

Source: kind: keras-team/keras issue 1727 and techfeed.net 485530, dropout inside and between
recurrent layers and constant predictions. Data: an instruction, then distractors; one of three
actions at the end.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Policy(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 24)
        self.drop = nn.Dropout(dropout)
        self.action = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 24)
        for t in range(x.shape[1]):
            state = self.drop(self.cell(x[:, t], state))
        return self.action(state)


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 38, 20, classes=3))
    return classifier(
        Policy(0.6 if faulty else 0.0),
        batches[:30],
        batches[30:],
        {"right": {"dropout"}, "partly": {"forgetting"}} if faulty else {"healthy"},
        classes=3,
        epochs=12,
    )
