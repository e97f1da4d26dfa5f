"""The decoder of an autoencoder starts every step from the code: all reconstructed frames agree.

Source: kind: "LSTM autoencoder, same output at every time step" (machinelearningmastery.com,
"LSTM autoencoders", comments). The state of the decoder is not passed on. Data: vibration records.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

STEPS = 16


class Autoencoder(nn.Module):
    def __init__(self, carried: bool) -> None:
        super().__init__()
        self.encoder = nn.LSTM(2, 32, batch_first=True)
        self.code = nn.Linear(32, 8)
        self.decoder = nn.LSTMCell(8, 48)
        self.frame = nn.Linear(48, 2)
        self.carried = carried

    def forward(self, x: Tensor) -> Tensor:
        _, (last, _) = self.encoder(x)
        code = self.code(last[-1])
        start = code.new_zeros(len(code), 48)
        state, frames = (start, start), []
        for _ in range(STEPS):
            new = self.decoder(code, state)
            frames.append(self.frame(new[0]))
            if self.carried:
                state = new
        return torch.stack(frames, dim=1)


def vibrations(count: int) -> tuple[Tensor, Tensor]:
    time = torch.arange(STEPS)
    phase = 6.2832 * torch.rand(count, 1)
    angle = phase + 0.7854 * time
    size = 0.5 + torch.rand(count, 1)
    x = torch.stack((size * angle.sin(), size * (2 * angle).cos()), dim=2)
    return x + 0.05 * torch.randn_like(x), x


def make(faulty: bool) -> Case:
    batches = batched(*vibrations(32 * 36))
    return forecaster(
        Autoencoder(carried=not faulty),
        batches[:30],
        batches[30:],
        accept={"right": {"gradient cut"}, "partly": {"forgetting"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
        lr=0.006,
        good=0.8,
    )
