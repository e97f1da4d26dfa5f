"""The replay cuts episodes in halves and starts each from a zero state, after the sign was seen.

Source: ray-project/ray issue 44383 and danijar/dreamer issue 24, on zero states for sequences from
a replay buffer. The inputs of the sequences do not contain what the action depends on.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

STEPS = 32


class RecurrentQ(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 32, batch_first=True)
        self.advantage = nn.Linear(32, 4)

    def forward(self, observations: Tensor) -> Tensor:
        output, _ = self.rnn(observations)
        return self.advantage(output)


def episodes(count: int) -> tuple[Tensor, Tensor]:
    sign = torch.randint(4, (count,))
    observations = 0.2 * torch.randn(count, STEPS, 5)
    observations[torch.arange(count), 6, sign] += 3
    observations[torch.arange(count), 7, sign] += 3
    best = torch.full((count, STEPS), -100)
    for crossing in (19, 25, 31):
        observations[:, crossing, 4] += 2
        best[:, crossing] = sign
    return observations, best


def make(faulty: bool) -> Case:
    observations, best = episodes(32 * 48)
    if faulty:
        observations, best = observations[:, STEPS // 2 :], best[:, STEPS // 2 :]
    batches = batched(observations, best)
    return classifier(
        RecurrentQ(),
        batches[:40],
        batches[40:],
        accept={"right": {"no dependence found"}, "partly": {"gradient cut"}}
        if faulty
        else {"healthy"},
        epochs=20,
        classes=4,
        lr=0.006,
        good=0.85,
    )
