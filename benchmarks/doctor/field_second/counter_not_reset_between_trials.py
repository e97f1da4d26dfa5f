"""A network that counts pulses keeps its state from one batch of trials to the next.

Source: Stable-Baselines-Team/stable-baselines3-contrib issue 169, on whether the recurrent state
is reset at the start of an episode. Trials differ in length from batch to batch; the target is the
number of pulses since the trial began.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, forecaster


class PulseCounter(nn.Module):
    def __init__(self, reset: bool) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 32, batch_first=True)
        self.count = nn.Linear(32, 1)
        self.reset = reset
        self.state: Tensor | None = None
        nn.init.orthogonal_(self.rnn.weight_hh_l0)

    def forward(self, pulses: Tensor) -> Tensor:
        _, state = self.rnn(pulses, None if self.reset else self.state)
        self.state = state.detach()
        return self.count(state[-1])[:, 0]


def trials(batches: int) -> list[tuple[Tensor, Tensor]]:
    result = []
    for steps in torch.randint(12, 45, (batches,)).tolist():
        pulses = (torch.rand(32, steps, 1) < 0.3).float()
        inputs = torch.cat((pulses, 0.1 * torch.randn(32, steps, 1)), dim=2)
        result.append((inputs, (pulses.sum((1, 2)) - 8) / 4))
    return result


def make(faulty: bool) -> Case:
    batches = trials(60)
    return forecaster(
        PulseCounter(reset=not faulty),
        batches[:48],
        batches[48:],
        accept={"right": {"state leak"}, "partly": set()} if faulty else {"healthy"},
        epochs=20,
        lr=0.003,
        good=0.85,
    )
