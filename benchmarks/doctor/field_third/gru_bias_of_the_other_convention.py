"""The update gate of a GRU gets a bias of -4 to keep the state; in PyTorch that overwrites it.

Source: Lasagne/Recipes issue 6, "Initialize the bias of the update gate for gru to something large
negative", where the gate has the opposite sense.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class DialogueReader(nn.Module):
    def __init__(self, update_bias: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.gru = nn.GRU(8, 24, batch_first=True)
        self.fc = nn.Linear(24, 4)
        nn.init.constant_(self.gru.bias_ih_l0[24:48], update_bias)
        nn.init.zeros_(self.gru.bias_hh_l0[24:48])

    def forward(self, words: Tensor) -> Tensor:
        _, h = self.gru(self.embed(words))
        return self.fc(h[-1])


def dialogues(count: int, words: int) -> tuple[Tensor, Tensor]:
    """The opening of three words names the topic; the remainder is small talk."""
    x, y = torch.randint(12, 30, (count, words)), torch.randint(4, (count,))
    x[:, :3] = 3 * y[:, None] + torch.randint(3, (count, 3))
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*dialogues(32 * 44, 60))
    return classifier(
        DialogueReader(-4.0 if faulty else 4.0),
        batches[:36],
        batches[36:],
        accept={"right": {"forgetting", "vanishing gradient"}, "partly": set()}
        if faulty
        else {"healthy"},
        epochs=8,
        classes=4,
    )
