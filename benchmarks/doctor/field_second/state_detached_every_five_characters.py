"""The state is detached every five characters, and the key stands ten to thirty before.

Source: kind: fastai/fastbook pull 95 and flairNLP/flair issue 1062, on truncated backpropagation in
language models. No gradient of an answer reaches the step that should store the key.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit

KEYS, QUESTION, CHARACTERS = 5, 5, 16


class ChunkedReader(nn.Module):
    def __init__(self, detach: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, 12)
        self.rnn = nn.GRU(12, 32, batch_first=True)
        self.out = nn.Linear(32, KEYS)
        self.detach = detach

    def forward(self, text: Tensor) -> Tensor:
        state, outputs = None, []
        for chunk in self.embedding(text).split(5, 1):
            output, state = self.rnn(chunk, state)
            if self.detach:
                state = state.detach()
            outputs.append(output)
        return self.out(torch.cat(outputs, 1))


def texts(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return texts with a key and questions for it, and the key at the questions, else -100."""
    text = torch.randint(QUESTION + 1, CHARACTERS, (count, steps))
    key = torch.randint(KEYS, (count,))
    text[torch.arange(count), torch.randint(3, (count,))] = key
    asked = torch.rand(count, steps) < 0.15
    asked[:, :12] = False
    asked[:, -1] = True
    text[asked] = QUESTION
    return text, torch.where(asked, key[:, None], -100)


def make(faulty: bool) -> Case:
    batches = batched(*texts(32 * 44, 35))
    train, test = batches[:36], batches[36:]
    return Case(
        ChunkedReader(detach=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=10),
        lambda model: accuracy(model, test),
        chance=1 / KEYS,
        good=0.9,
        accept={"right": {"gradient cut"}, "partly": set()} if faulty else {"healthy"},
    )
