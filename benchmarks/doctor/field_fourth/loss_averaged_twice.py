"""The mean of the loss is divided by the number of samples and of frames once more, under SGD.

Source: kind: reduction="mean" and a division by the batch, "the loss goes down very slowly"
Data: the pitch of a frame is that of the source three frames before.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, explained

FRAMES, DELAY = 20, 3


class PitchTracker(nn.Module):
    """A recurrent layer over frames, and a pitch for each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 24, batch_first=True)
        self.pitch = nn.Linear(24, 1)

    def forward(self, frames: Tensor) -> Tensor:
        return self.pitch(self.rnn(frames)[0]).squeeze(-1)


def utterances(count: int) -> tuple[Tensor, Tensor]:
    source = torch.randint(2, (count, FRAMES)) * 2.0 - 1
    frames = 0.2 * torch.randn(count, FRAMES, 3)
    frames[..., 0] += source
    pitch = torch.zeros(count, FRAMES)
    pitch[:, DELAY:] = source[:, :-DELAY]
    return frames, pitch


def make(faulty: bool) -> Case:
    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        frames, pitch = batch
        loss = F.mse_loss(model(frames), pitch)
        return loss / pitch.numel() if faulty else loss

    def sgd(model):
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def fit(model: nn.Module) -> None:
        optimizer = sgd(model)
        for _ in range(20):
            for batch in train:
                optimizer.zero_grad()
                loss_fn(model, batch).backward()
                optimizer.step()

    batches = batched(*utterances(768 + 256))
    train, test = batches[:24], batches[24:]
    return Case(
        PitchTracker(),
        train,
        loss_fn,
        fit,
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"step size"}, "partly": {"undertrained", "not trained"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"optimizer": sgd},
    )
