"""A ReLU RNN starts with negative biases "for sparsity": its units never fire.

Source: GitHub ProteomicsML/ProteomicsML#203, "Do not use ReLU activation for the final regression
layer", and jvargasmu/population_estimation#68 (only zeros due to ReLU activation).
"""

from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, digits, fit


class ReLUNet(nn.Module):
    """A ReLU RNN over the rows of an image."""

    def __init__(self, bias, hidden=40):
        super().__init__()
        self.rnn = nn.RNN(8, hidden, nonlinearity="relu", batch_first=True)
        self.fc = nn.Linear(hidden, 10)
        for name, param in self.rnn.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.kaiming_uniform_(param, nonlinearity="relu")
            elif name.startswith("weight_hh"):
                nn.init.orthogonal_(param)
            else:
                nn.init.constant_(param, bias / 2)

    def forward(self, x):
        _, h = self.rnn(x)
        return self.fc(h.squeeze(0))


def make(faulty: bool) -> Case:
    """Return the program; the biases of the faulty one are far below what the inputs add."""
    images, labels = digits()
    batches = batched(images[:1280], labels[:1280])
    held_out = batched(images[1280:], labels[1280:])
    return Case(
        ReLUNet(bias=-6.0 if faulty else 0.0),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=12, lr=0.003),
        lambda model: accuracy(model, held_out),
        chance=0.1,
        good=0.85,
        accept={"right": {"dead units"}, "partly": {"not trained"}} if faulty else {"healthy"},
    )
