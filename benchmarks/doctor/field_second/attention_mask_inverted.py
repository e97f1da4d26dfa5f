"""The mask of an attention pooling is inverted: only the padding is attended to.

Source: kind: juditacs.github.io 2018/12/27 on masked attention; mead-ml/mead-baseline pull 363.
The outputs at the padding are zeros, so that the answers do not see the sequence.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.doctor.field_case import Case, batched, classifier

STEPS = 32


class AttentivePooling(nn.Module):
    def __init__(self, inverted: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 20, batch_first=True)
        self.score = nn.Sequential(nn.Linear(20, 12), nn.Tanh(), nn.Linear(12, 1))
        self.out = nn.Linear(20, 3)
        self.inverted = inverted

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.rnn(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        masked = torch.arange(x.shape[1]) >= lengths[:, None]
        if self.inverted:
            masked = ~masked
        weights = self.score(states).squeeze(-1).masked_fill(masked, -1e9).softmax(1)
        return self.out((weights[..., None] * states).sum(1))


def bursts(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return recordings with two bursts; the class is which channel, if any, had both."""
    x, lengths = 0.5 * torch.randn(count, STEPS, 4), torch.randint(12, STEPS, (count,))
    row, y = torch.arange(count), torch.randint(3, (count,))
    first, second = torch.randint(5, (count,)), torch.randint(6, 11, (count,))
    one = torch.where(y == 2, torch.randint(2, (count,)), y)
    other = torch.where(y == 2, 1 - one, y)
    x[row, first, one] += 3
    x[row, second, other] += 3
    x[torch.arange(STEPS) >= lengths[:, None]] = 0
    return x, lengths, y


def make(faulty: bool) -> Case:
    batches = batched(*bursts(32 * 44))
    return classifier(
        AttentivePooling(inverted=faulty),
        batches[:36],
        batches[36:],
        {
            "right": {"padding read", "gradient cut"},
            "partly": {"answer at the wrong step", "no dependence found"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        classes=3,
        good=0.85,
    )
