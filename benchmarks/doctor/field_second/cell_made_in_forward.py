"""The cell is made inside `forward`: each call has new random weights, which are never trained.

Source: discuss.pytorch.org 159152 (kind: layers that the module does not hold). Data: handwritten
digits, half a column of pixels a step.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, digits


class DigitReader(nn.Module):
    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 48) if keep else None
        self.head = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        cell = nn.GRUCell(4, 48) if self.cell is None else self.cell
        state = x.new_zeros(len(x), 48)
        for t in range(x.shape[1]):
            state = cell(x[:, t], state)
        return self.head(state)


def make(faulty: bool) -> Case:
    images, classes = digits()
    columns = images.transpose(1, 2).reshape(-1, 16, 4)
    batches = batched(columns, classes)
    return classifier(
        DigitReader(keep=not faulty),
        batches[:46],
        batches[46:],
        accept={"right": {"not trained"}, "partly": {"gradient cut"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
        classes=10,
        lr=0.008,
        good=0.85,
    )
