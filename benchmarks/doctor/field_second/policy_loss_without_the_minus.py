"""The policy gradient is minimised without its minus: rewarded actions become less likely.

Source: ikostrikov/pytorch-a3c issue 30 and openai/spinningup issue 436, on the sign of the policy
loss. The loss has no lower bound. Data: logged episodes with random actions and a reward if the
action at the end is the one that was asked for at the start.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cued, fit


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 32, batch_first=True)
        self.actor = nn.Linear(32, 3)

    def forward(self, observations: Tensor) -> Tensor:
        output, _ = self.rnn(observations)
        return self.actor(output[:, -1])


def weighted(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    observations, action, reward = batch
    chosen = model(observations).log_softmax(-1).gather(1, action[:, None])[:, 0]
    return (chosen * reward).mean()


def policy_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return -weighted(model, batch)


def make(faulty: bool) -> Case:
    observations, asked = cued(32 * 46, 20, classes=3, noise=0.2)
    action = torch.randint(3, asked.shape)
    train = batched(observations, action, (action == asked).float())[:40]
    test = batched(observations, asked)[40:]
    loss = weighted if faulty else policy_loss
    return Case(
        Policy(),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=20, lr=0.005),
        lambda model: accuracy(model, test),
        chance=1 / 3,
        good=0.9,
        accept={"right": {"answers do not fit the loss"}, "partly": {"exploding gradient"}}
        if faulty
        else {"healthy"},
    )
