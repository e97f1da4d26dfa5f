"""The hidden state of the tutorial's character RNN has no non-linearity and large weights.

Source: GitHub pytorch/pytorch#2623, "How to handle exploding/vanishing gradient in Pytorch".
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched


class RNN(nn.Module):
    """The cell of the character RNN: linear maps of input and hidden state."""

    def __init__(self, input_size, hidden_size, output_size, squash):
        super().__init__()
        self.hidden_size = hidden_size
        self.squash = squash
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.i2o = nn.Linear(input_size + hidden_size, output_size)
        if not squash:
            nn.init.kaiming_normal_(self.i2h.weight)

    def step(self, inputs, hidden):
        combined = torch.cat((inputs, hidden), 1)
        hidden = self.i2h(combined)
        if self.squash:
            hidden = torch.tanh(hidden)
        return self.i2o(combined), hidden

    def forward(self, line):
        hidden = torch.zeros(line.size(0), self.hidden_size)
        outputs = []
        for inputs in line.unbind(1):
            output, hidden = self.step(inputs, hidden)
            outputs.append(output)
        return outputs[-1]


def criterion(model, batch):
    """The negative log-likelihood of the category."""
    line, category = batch
    return F.nll_loss(F.log_softmax(model(line), dim=1), category)


def lines(count, steps=60):
    """Return one-hot letters of lines; the category shows in the ending, the last three letters."""
    category = torch.randint(2, (count,))
    letters = torch.randint(8, (count, steps))
    weights = torch.ones(2, 8)
    weights[0, :2] = weights[1, 2:4] = 5.0
    letters[:, -3:] = torch.multinomial(weights[category], 3, replacement=True)
    return F.one_hot(letters, 8).float(), category


def make(faulty: bool) -> Case:
    """Return the program; the state of the faulty one grows without bound."""
    batches, held_out = batched(*lines(40 * 32)), batched(*lines(512))

    def fit(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        finite = copy.deepcopy(model.state_dict())
        for _ in range(6):
            for batch in batches:
                optimizer.zero_grad()
                loss = criterion(model, batch)
                if not torch.isfinite(loss):
                    model.load_state_dict(finite)
                    return
                finite = copy.deepcopy(model.state_dict())
                loss.backward()
                if not faulty:
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

    return Case(
        RNN(8, 24, 2, squash=not faulty),
        batches,
        criterion,
        fit,
        lambda model: accuracy(model, held_out),
        chance=0.5,
        good=0.8,
        accept={"right": {"exploding gradient"}, "partly": {"step size"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
