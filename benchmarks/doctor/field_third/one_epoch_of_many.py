"""A model of text is trained for one epoch where it needs many.

Source: sktime/pytorch-forecasting issue 1, "the network has probably not trained for long enough",
and discuss.pytorch.org 98896 with few epochs at a small rate. Data: snippets of prose; the answer
is the number of letters after "m" in the alphabet.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster, prose


class LateLetters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(28, 6)
        self.lstm = nn.LSTM(6, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, text: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(text))[0][:, -1])[:, 0]


def make(faulty: bool) -> Case:
    text = prose(32 * 48 * 18).reshape(-1, 18)
    text = text[torch.randperm(len(text))]
    late = ((text > 13) & (text < 27)).sum(1).float()
    batches = batched(text, (late - late.mean()) / late.std())
    return forecaster(
        LateLetters(),
        batches[:40],
        batches[40:],
        {"right": {"undertrained"}, "partly": {"step size"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=1 if faulty else 30,
        lr=0.002,
        good=0.85,
    )
