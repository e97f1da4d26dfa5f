"""An encoder's code is rebuilt with `torch.tensor` before the decoder, which cuts its gradient.

Source: exchangetuts.com, "LSTM autoencoder always returns the average of the input sequence"; kind:
tensors rebuilt from lists between encoder and decoder. Data: sums of two tones.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class ToneAutoencoder(nn.Module):
    def __init__(self, rebuild: bool) -> None:
        super().__init__()
        self.encoder = nn.LSTM(1, 24, batch_first=True)
        self.decoder = nn.LSTM(2, 24, batch_first=True)
        self.squeeze = nn.Linear(24, 2)
        self.out = nn.Linear(24, 1)
        self.rebuild = rebuild

    def forward(self, x: Tensor) -> Tensor:
        code = self.squeeze(self.encoder(x)[0][:, -1])
        if self.rebuild:
            code = torch.tensor(code.tolist(), requires_grad=True)
        decoded, _ = self.decoder(code[:, None].repeat(1, x.shape[1], 1))
        return self.out(decoded)


def tones(count: int, steps: int) -> Tensor:
    first, second = torch.randn(count, 1), torch.randn(count, 1)
    fade = torch.linspace(1, 0, steps)
    time = torch.arange(steps)
    x = first * fade * torch.cos(0.5 * time) + second * fade * torch.sin(0.5 * time)
    return (x + 0.05 * torch.randn(count, steps))[..., None]


def make(faulty: bool) -> Case:
    x = tones(32 * 40, 20)
    batches = batched(x, x)
    return forecaster(
        ToneAutoencoder(rebuild=faulty),
        batches[:32],
        batches[32:],
        {"right": {"gradient cut"}, "partly": {"not trained"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        good=0.8,
    )
