"""The mask of the attention is inverted: only padded steps get a weight, where packed
layers give zeros.

Source: kind: pytorch issues on key_padding_mask and masked_fill, True means the other way round.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.doctor.field_case import Case, batched, classifier


class AttentiveReader(nn.Module):
    def __init__(self, inverted: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 24, padding_idx=0)
        self.rnn = nn.GRU(24, 24, batch_first=True)
        self.score = nn.Sequential(nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 1))
        self.out = nn.Linear(24, 4)
        self.inverted = inverted

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embed(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        output, _ = pad_packed_sequence(
            self.rnn(packed)[0], batch_first=True, total_length=tokens.shape[1]
        )
        hidden = torch.arange(tokens.shape[1]) >= lengths[:, None]
        if self.inverted:
            hidden = ~hidden
        scores = self.score(output).squeeze(-1).masked_fill(hidden, -1e9)
        return self.out((scores.softmax(1)[..., None] * output).sum(1))


def reviews(count: int) -> list[tuple[Tensor, ...]]:
    """The class is told by the order of two marked words; 30 steps of padding at least."""
    lengths = torch.randint(8, 16, (count,))
    tokens = torch.randint(5, 20, (count, 60))
    tokens[torch.arange(60) >= lengths[:, None]] = 0
    first, second, rows = (
        torch.randint(2, (count,)),
        torch.randint(2, (count,)),
        torch.arange(count),
    )
    tokens[rows, torch.randint(0, 3, (count,))] = 1 + first
    tokens[rows, torch.randint(4, 7, (count,))] = 3 + second
    return batched(tokens, lengths, 2 * first + second, size=32)


def make(faulty: bool) -> Case:
    return classifier(
        AttentiveReader(faulty),
        reviews(960),
        reviews(320),
        {
            "right": {"padding read"},
            "partly": {"answer at the wrong step", "gradient cut", "not trained"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=6,
        classes=4,
        lr=0.005,
    )
