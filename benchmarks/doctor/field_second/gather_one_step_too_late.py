"""The last output is gathered at index `lengths` where it stands at `lengths - 1`.

Source: kind: discuss.pytorch.org threads on the last output of a padded sequence. Behind a packed
sequence the outputs are zeros.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.doctor.field_case import Case, batched, classifier

STEPS = 24


class GestureClassifier(nn.Module):
    def __init__(self, late: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 24, batch_first=True)
        self.out = nn.Linear(24, 4)
        self.late = late

    def forward(self, path: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(path, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.rnn(packed)[0], batch_first=True, total_length=path.shape[1]
        )
        index = (lengths - 1 + self.late).view(-1, 1, 1).expand(-1, 1, states.shape[2])
        return self.out(states.gather(1, index).squeeze(1))


def gestures(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pen movements along two of the four sides of a square, and which side came first."""
    side = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    lengths, y = torch.randint(14, STEPS, (count,)), torch.randint(4, (count,))
    then = torch.randint(4, (count,))
    first = (torch.arange(STEPS) < lengths[:, None] // 3)[..., None]
    path = torch.where(first, side[y][:, None], side[then][:, None])
    path = path + 0.5 * torch.randn(count, STEPS, 2)
    path[torch.arange(STEPS) >= lengths[:, None]] = 0
    return path, lengths, y


def make(faulty: bool) -> Case:
    batches = batched(*gestures(32 * 40))
    return classifier(
        GestureClassifier(late=int(faulty)),
        batches[:32],
        batches[32:],
        {"right": {"answer at the wrong step", "padding read"}, "partly": {"gradient cut"}}
        if faulty
        else {"healthy"},
        epochs=14,
        classes=4,
    )
