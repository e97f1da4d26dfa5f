"""The decoder of a sequence autoencoder gets the sequence itself, not the code alone.

Source: kind: sequence autoencoders with teacher forcing whose code is not used.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, fit, squared_error


class Autoencoder(nn.Module):
    def __init__(self, forced: bool) -> None:
        super().__init__()
        self.encoder = nn.LSTM(2, 32, batch_first=True)
        self.decoder = nn.LSTM(2, 32, batch_first=True)
        self.out = nn.Linear(32, 2)
        self.forced = forced

    def forward(self, x: Tensor, blind: bool = False) -> Tensor:
        _, code = self.encoder(x)
        inputs = x if self.forced and not blind else torch.zeros_like(x)
        return self.out(self.decoder(inputs, code)[0])


def curves(count: int) -> list[tuple[Tensor, Tensor]]:
    """Two sines a sequence, of a phase and a size of its own."""
    phase, size = 6.3 * torch.rand(count, 1, 2), 0.5 + torch.rand(count, 1, 2)
    x = size * (phase + 0.5 * torch.arange(16)[None, :, None]).sin()
    return batched(x, x, size=32)


def make(faulty: bool) -> Case:
    train, test = curves(1280), curves(256)

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        errors = [(model(x, blind=True) - x).square().mean() for x, _ in test]
        return 1 - float(torch.stack(errors).mean() / torch.cat([x for x, _ in test]).var())

    return Case(
        Autoencoder(faulty),
        train,
        squared_error,
        lambda m: fit(m, train, squared_error, epochs=12, lr=0.005),
        score,
        0.0,
        0.7,
        {"right": {"target seen"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
