"""A decoder gets the encoder's state at its first step only, and its own state is thrown away.

Source: lkulowski/LSTM_encoder_decoder issue 4, on the states between encoder and decoder. The
decoder draws a course of which the past shows the level, the slope and a ripple.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Levels(nn.Module):
    def __init__(self, keep_state: bool) -> None:
        super().__init__()
        self.encoder = nn.GRU(3, 32, batch_first=True)
        self.decoder = nn.GRU(1, 32, batch_first=True)
        self.out = nn.Linear(32, 1)
        self.keep_state = keep_state

    def forward(self, past: Tensor) -> Tensor:
        _, state = self.encoder(past)
        value = past.new_zeros(len(past), 1, 1)
        answers = []
        for _ in range(8):
            output, new_state = self.decoder(value, state)
            state = new_state if self.keep_state else torch.zeros_like(new_state)
            value = self.out(output)
            answers.append(value[:, 0])
        return torch.cat(answers, 1)


def courses(count: int) -> tuple[Tensor, Tensor]:
    slope, level, ripple = torch.randn(3, count, 1)
    shown = torch.randn(count, 14, 3) * 0.1
    shown[:, 0] = torch.cat((slope, level, ripple), 1)
    time = torch.arange(8) / 8
    course = level * torch.cos(3 * time) + slope * torch.sin(5 * time)
    return shown, course + ripple * torch.sin(12 * time)


def make(faulty: bool) -> Case:
    batches = batched(*courses(32 * 44))
    return forecaster(
        Levels(keep_state=not faulty),
        batches[:36],
        batches[36:],
        {"right": {"gradient cut", "forgetting"}, "partly": {"vanishing gradient"}}
        if faulty
        else {"healthy"},
        epochs=20,
        good=0.85,
    )
