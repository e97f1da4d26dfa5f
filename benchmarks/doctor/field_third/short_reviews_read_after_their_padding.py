"""Reviews of a dozen words are filled up with zeros to 90, and the GRU is read at `out[:, -1]`.

Source: keitakurita/practical-torchtext issue 5, "Last timestep output in the text classifier
wrong?". The healthy twin gathers the output of the last word.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class ReviewGRU(nn.Module):
    def __init__(self, gathers: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8, padding_idx=0)
        self.gru = nn.GRU(8, 16, batch_first=True)
        self.fc = nn.Linear(16, 3)
        self.gathers = gathers

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        out, _ = self.gru(self.embed(words))
        last = out[torch.arange(len(out)), lengths - 1] if self.gathers else out[:, -1]
        return self.fc(last)


def reviews(count: int) -> tuple[Tensor, Tensor, Tensor]:
    lengths, y = torch.randint(10, 17, (count,)), torch.randint(3, (count,))
    words = torch.randint(10, 50, (count, 90))
    words[torch.arange(count), torch.randint(8, (count,))] = 1 + 3 * torch.randint(3, (count,)) + y
    words[torch.arange(90) >= lengths[:, None]] = 0
    return words, lengths, y


def make(faulty: bool) -> Case:
    batches = batched(*reviews(32 * 40))
    return classifier(
        ReviewGRU(gathers=not faulty),
        batches[:30],
        batches[30:],
        accept={
            "right": {"padding read"},
            "partly": {"vanishing gradient", "forgetting", "answer at the wrong step"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=6,
        classes=3,
    )
