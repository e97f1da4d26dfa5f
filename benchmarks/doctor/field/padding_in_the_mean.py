"""The mean over the outputs includes the padded steps.

Source: facebookresearch/InferSent, issue 51, "Two pooling issues": the encoded sentence depends on
the amount of padding. The target here is the share of frames with speech, so that the mean matters.
Scored on batches that are filled up to 150 frames, as in a service.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from benchmarks.doctor.field_case import Case, explained, fit, squared_error


class MeanPooling(nn.Module):
    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 24, batch_first=True)
        self.head = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 1))
        self.masked = masked

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        out, _ = self.rnn(frames)
        if self.masked:
            mask = torch.arange(out.size(1)) < lengths[:, None]
            pooled = (out * mask[..., None]).sum(1) / lengths[:, None]
        else:
            pooled = out.mean(1)
        return self.head(pooled).squeeze(-1)


def recordings(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Speech is loud; a pause is silent (the microphone is off), and lasts several frames."""
    frames, shares = [], []
    lengths = torch.randint(15, 60, (count,))
    for length in lengths.tolist():
        changes = (torch.rand(length) < 0.1).cumsum(0) % 2
        speech = (changes + torch.randint(2, (1,))) % 2
        frames.append(torch.randn(length, 4) * speech[:, None])
        shares.append(speech.float().mean())
    y = (torch.stack(shares) - 0.5) * 3
    return pad_sequence(frames, batch_first=True), lengths, y


def make(faulty: bool) -> Case:
    train, test = [recordings(24) for _ in range(36)], [recordings(24) for _ in range(10)]
    padded = [(nn.functional.pad(x, (0, 0, 0, 150 - x.size(1))), n, y) for x, n, y in test]
    return Case(
        MeanPooling(masked=not faulty),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=10),
        lambda model: explained(model, padded),
        chance=0.0,
        good=0.85,
        accept={"right": {"padding read"}, "partly": set()} if faulty else {"healthy"},
    )
