"""The images are shuffled with a permutation, and their labels are not.

Source: GitHub dennybritz/cnn-text-classification-tf#136, "Is there a problem in the test case?",
and udacity/nd320-c1-emr-data-starter#4.
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, digits, fit


class BiRNN(nn.Module):
    """A bidirectional GRU over the rows of an image, with mean pooling."""

    def __init__(self, input_size=8, hidden_size=20, num_classes=10):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, image):
        out, _ = self.rnn(image)
        return self.fc(out.mean(dim=1))


def loss_fn(model, batch):
    """The cross-entropy of a dictionary of images and labels."""
    return F.cross_entropy(model(batch["image"]), batch["label"])


def make(faulty: bool) -> Case:
    """Return the program; the faulty one pairs images with the labels of other images."""
    images, labels = digits()
    shuffled = torch.randperm(len(images))
    images = images[shuffled]
    if not faulty:
        labels = labels[shuffled]
    parts = zip(images.split(32), labels.split(32), strict=True)
    loader = [{"image": i, "label": j} for i, j in parts]
    batches, held_out = loader[:40], loader[40:]

    def score(model):
        with torch.no_grad():
            hits = [(model(b["image"]).argmax(1) == b["label"]).float() for b in held_out]
        return float(torch.cat(hits).mean())

    return Case(
        BiRNN(),
        batches,
        loss_fn,
        lambda model: fit(model, batches, loss_fn, epochs=12),
        score,
        chance=0.1,
        good=0.9,
        accept={"right": {"no dependence found"}, "partly": set()} if faulty else {"healthy"},
    )
