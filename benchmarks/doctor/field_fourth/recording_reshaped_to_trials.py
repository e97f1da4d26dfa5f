"""A recording of (bin, trial, neuron) is reshaped to (trial, bin, neuron), not permuted.

Source: kind: numpy's reshape taken for a transpose; https://github.com/jessicayung/blog-code-snippets/issues/6
Data: the rates of twelve neurons; five of them prefer left or right, and answer to the stimulus in
the first bins of a trial only.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

BINS, NEURONS = 20, 12


class ChoiceDecoder(nn.Module):
    """A GRU that decodes the animal's choice from the population's rates."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(NEURONS, 16, batch_first=True)
        self.choice = nn.Linear(16, 2)

    def forward(self, rates: Tensor) -> Tensor:
        return self.choice(self.gru(rates)[0][:, -1])


def recording(trials: int) -> tuple[Tensor, Tensor]:
    choice = torch.randint(2, (trials,))
    rates = torch.randn(BINS, trials, NEURONS)
    preferred = torch.zeros(NEURONS)
    preferred[:5] = 1.0
    rates[:4] += (2.0 * choice - 1)[:, None] * preferred
    return rates, choice


def make(faulty: bool) -> Case:
    rates, choice = recording(1024)
    correct = rates.permute(1, 0, 2).contiguous()
    trials = rates.reshape(1024, BINS, NEURONS) if faulty else correct
    train = batched(trials[:768], choice[:768])
    test = batched(correct[768:], choice[768:])
    return classifier(
        ChoiceDecoder(),
        train,
        test,
        {
            "right": {"no dependence found"},
            "partly": {"samples mixed", "time and batch swapped", "target meets other answers"},
        }
        if faulty
        else {"healthy"},
        epochs=8,
    )
