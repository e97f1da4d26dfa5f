"""A siamese network takes the cosine along axis 0, the batch, in place of the features.

Source: datascience.stackexchange.com 45629, a siamese recurrent network that does not learn. With
32 features and batches of 32 the shapes fit. Data: pairs of digits, of the same class or not.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, digits, fit


class Siamese(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 48, batch_first=True)
        self.embed = nn.Linear(48, 32)
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.offset = nn.Parameter(torch.tensor(-2.5))
        self.axis = axis

    def encode(self, image: Tensor) -> Tensor:
        _, state = self.rnn(image)
        return self.embed(state[-1])

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        cosine = F.cosine_similarity(self.encode(first), self.encode(second), dim=self.axis)
        return self.scale * cosine + self.offset


def pairs(images: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    first = torch.randint(len(images), (count,))
    other = torch.randint(len(images), (count,))
    alike = torch.rand(count) < 0.5
    for i in torch.where(alike)[0].tolist():
        same = torch.where(classes == classes[first[i]])[0]
        other[i] = same[torch.randint(len(same), ())]
    target = (classes[first] == classes[other]).float()
    return images[first], images[other], target


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(*batch[:2]), batch[2])


def score(model: nn.Module, batches: list[tuple[Tensor, Tensor, Tensor]]) -> float:
    right = [
        ((logit > 0) == (target > 0.5)).float().mean() for logit, target in answers(model, batches)
    ]
    return float(torch.stack(right).mean())


def make(faulty: bool) -> Case:
    images, classes = digits()
    images = images.reshape(-1, 16, 4)
    train = batched(*pairs(images[:1500], classes[:1500], 32 * 48))
    test = batched(*pairs(images[1500:], classes[1500:], 32 * 10))
    return Case(
        Siamese(axis=0 if faulty else 1),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=20, lr=0.005),
        lambda model: score(model, test),
        chance=0.52,
        good=0.8,
        accept={"right": {"samples mixed"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
