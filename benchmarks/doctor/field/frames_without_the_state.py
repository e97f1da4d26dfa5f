"""A convolution and an LSTM over frames, a frame a call; the state is not passed on.

Source: yunjey/pytorch-tutorial, issue 22, "states in lstm()": "if you do not assign the states, it
assigns zero states internally". Data: handwritten digits in films with empty frames; the class is
the digit of the first frame.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, digits, fit


class ConvLSTM(nn.Module):
    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(72, 24),
            nn.ReLU(),
        )
        self.lstm = nn.LSTM(24, 32, batch_first=True)
        self.fc = nn.Linear(32, 10)
        self.keep = keep

    def forward(self, film: Tensor) -> Tensor:
        hidden = None
        out = film.new_zeros(0)
        for t in range(film.size(1)):
            frame = self.features(film[:, t].unsqueeze(1))
            out, state = self.lstm(frame.unsqueeze(1), hidden)
            if self.keep:
                hidden = state
        return self.fc(out[:, -1])


def films(count: int, frames: int) -> tuple[Tensor, Tensor]:
    """A digit at the first frame, a pale one at a later frame, and noise elsewhere."""
    images, classes = digits()
    pick = torch.randint(len(images), (2, count))
    film = 0.1 * torch.rand(count, frames, 8, 8)
    film[:, 0] = images[pick[0]]
    at = torch.randint(2, frames, (count,))
    film[torch.arange(count), at] = 0.5 * images[pick[1]]
    return film, classes[pick[0]]


def make(faulty: bool) -> Case:
    batches = batched(*films(48 * 40, 8), size=48)
    train, test = batches[:32], batches[32:]
    return Case(
        ConvLSTM(keep=not faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=18, lr=0.005),
        lambda model: accuracy(model, test),
        chance=0.1,
        good=0.75,
        accept={"right": {"forgetting", "one-step sequences"}, "partly": {"gradient cut"}}
        if faulty
        else {"healthy"},
    )
