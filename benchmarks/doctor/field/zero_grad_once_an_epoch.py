"""The loop calls zero_grad at the start of each epoch, not before each backward.

Source: GitHub pytorch/pytorch#47175, "Show warning if optimizer.zero_grad() was not called before
optimizer.step()"; the model is that of yunjey/pytorch-tutorial#40.
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, digits


class RNN(nn.Module):
    """A recurrent network (many to one)."""

    def __init__(self, input_size=8, hidden_size=32, num_layers=2, num_classes=10):
        super().__init__()
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, num_classes)

    def forward(self, x):
        h0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size)
        c0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1, :])


def criterion(model, batch):
    """The cross-entropy of a batch of images."""
    images, labels = batch
    return F.cross_entropy(model(images), labels)


def make(faulty: bool) -> Case:
    """Return the program; the faulty one adds up the gradients of an epoch."""
    images, labels = digits()
    batches = batched(images[:1280], labels[:1280])
    held_out = batched(images[1280:], labels[1280:])

    def training_step(model, optimizer, batch):
        if not faulty:
            optimizer.zero_grad()
        criterion(model, batch).backward()
        optimizer.step()

    def optimizer_of(model):
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def fit(model):
        optimizer = optimizer_of(model)
        for _ in range(15):
            optimizer.zero_grad()
            for batch in batches:
                training_step(model, optimizer, batch)

    return Case(
        RNN(),
        batches,
        criterion,
        fit,
        lambda model: accuracy(model, held_out),
        chance=0.1,
        good=0.85,
        accept={"right": {"gradients not zeroed"}, "partly": {"step size"}}
        if faulty
        else {"healthy"},
        options=lambda model: {
            "training_step": training_step,
            "optimizer": optimizer_of(model),
        },
    )
