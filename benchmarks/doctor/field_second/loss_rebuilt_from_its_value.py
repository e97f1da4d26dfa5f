"""The loss is rebuilt from its value, `torch.tensor(loss.item(), requires_grad=True)`.

Source: kind: the error "element 0 of tensors does not require grad" cured in the wrong way.
No gradient reaches the model. Data: handwritten digits, half a row of pixels a step; the target is
the last quarter of the image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, digits, forecaster, squared_error


class ImageCompletion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 64, batch_first=True)
        self.pixels = nn.Linear(64, 16)

    def forward(self, upper: Tensor) -> Tensor:
        _, state = self.rnn(upper)
        return self.pixels(state[-1])


def rebuilt(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    upper, lower = batch
    running = F.mse_loss(model(upper), lower).item()
    return torch.tensor(running, requires_grad=True)


def make(faulty: bool) -> Case:
    images, _ = digits()
    upper, lower = images[:, :6].reshape(-1, 12, 4), images[:, 6:].reshape(-1, 16)
    centred = lower - lower.mean(0)
    batches = batched(upper, centred)
    return forecaster(
        ImageCompletion(),
        batches[:46],
        batches[46:],
        accept={"right": {"not trained", "gradient cut"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=30,
        loss=rebuilt if faulty else squared_error,
        lr=0.004,
        good=0.5,
    )
