"""Behind the convolution each frame stays a row of its own, so that the GRU sees single steps.

Source: kind: HHTseng/video-classification issues on the axes between CNN and LSTM.
Data: films of handwritten digits; the first frame decides.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, digits


class FilmReader(nn.Module):
    def __init__(self, folds: bool) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 12)
        )
        self.gru = nn.GRU(12, 24, batch_first=True)
        self.fc = nn.Linear(24, 2)
        self.folds = folds

    def forward(self, films: Tensor) -> Tensor:
        count, frames = films.shape[:2]
        features = self.cnn(films.reshape(-1, 1, 8, 8))
        if self.folds:
            out, _ = self.gru(features.view(count, frames, -1))
        else:
            out = self.gru(features.unsqueeze(1))[0].view(count, frames, -1)
        return self.fc(out[:, -1])


def films(count: int, frames: int) -> tuple[Tensor, Tensor]:
    """A film of zeros and ones; the class is the digit of its first frame."""
    images, classes = digits()
    images = images[classes < 2]
    shown = torch.randint(len(images), (count, frames))
    return images[shown], classes[classes < 2][shown[:, 0]]


def make(faulty: bool) -> Case:
    batches = batched(*films(32 * 34, 12))
    return classifier(
        FilmReader(folds=not faulty),
        batches[:26],
        batches[26:],
        accept={"right": {"one-step sequences"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
    )
