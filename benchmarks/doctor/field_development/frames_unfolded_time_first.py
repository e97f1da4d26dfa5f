"""CNN and LSTM on small videos: frames are folded into the batch and unfolded as (time, batch).

Source: Rebuilt, no single thread: view(seq_len, batch_size, -1) after a CNN.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class VideoClassifier(nn.Module):
    def __init__(self, time_first: bool) -> None:
        super().__init__()
        self.time_first = time_first
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.lstm = nn.LSTM(32, 32, batch_first=True)
        self.fc = nn.Linear(32, 4)

    def forward(self, video: Tensor) -> Tensor:
        batch, time = video.shape[:2]
        features = self.cnn(video.flatten(0, 1))
        if self.time_first:
            features = features.view(time, batch, -1).transpose(0, 1)
        else:
            features = features.view(batch, time, -1)
        return self.fc(self.lstm(features)[0][:, -1])


def videos(count: int) -> list[tuple[Tensor, Tensor]]:
    """Eight frames; one quarter of the second frame is bright, and the class is which."""
    video, label = 0.3 * torch.randn(count, 8, 1, 8, 8), torch.randint(4, (count,))
    bright = torch.eye(4)[label].reshape(count, 2, 2)
    video[:, 1, 0] += 2.5 * bright.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return batched(video, label)


def make(faulty: bool) -> Case:
    mixed = {"right": {"samples mixed"}, "partly": set[str]()}
    return classifier(
        VideoClassifier(faulty),
        videos(1024),
        videos(256),
        mixed if faulty else {"healthy"},
        classes=4,
        epochs=12,
        lr=0.005,
    )
