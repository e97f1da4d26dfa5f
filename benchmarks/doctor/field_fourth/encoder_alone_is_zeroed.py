"""The gradients of the encoder are cleared before each step, those of the decoder never.

Source: GitHub spro/practical-pytorch#21 and fchollet/deep-learning-with-python-notebooks#293;
kind: two parts of a sequence-to-sequence model, one of which is zeroed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched

START, WORDS, LENGTH = 0, 7, 4


class Translator(nn.Module):
    """An encoder and a decoder, each with its own embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_embedding = nn.Embedding(WORDS, 16)
        self.encoder = nn.GRU(16, 40, batch_first=True)
        self.decoder = nn.GRU(16, 40, batch_first=True)
        self.decoder_embedding = nn.Embedding(WORDS, 16)
        self.out = nn.Linear(40, WORDS)

    def forward(self, source: Tensor, given: Tensor) -> Tensor:
        _, state = self.encoder(self.encoder_embedding(source))
        output, _ = self.decoder(self.decoder_embedding(given), state)
        return self.out(output)


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The cross-entropy of the words of the translation."""
    source, given, target = batch
    return F.cross_entropy(model(source, given).reshape(-1, WORDS), target.reshape(-1))


def make(faulty: bool) -> Case:
    """Return the program; the translation is the source, each word renamed."""
    source = torch.randint(1, WORDS, (1536, LENGTH))
    target = 1 + (source + 1) % (WORDS - 1)
    given = torch.cat([torch.full((len(source), 1), START), target[:, :-1]], dim=1)
    batches = batched(source, given, target)
    train, test = batches[:40], batches[40:]

    def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)

    def training_step(
        model: Translator, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        model.encoder.zero_grad()
        model.encoder_embedding.zero_grad()
        if not faulty:
            for part in (model.decoder, model.decoder_embedding, model.out):
                part.zero_grad()
        loss = loss_fn(model, batch)
        loss.backward()
        optimizer.step()
        return loss

    def train_it(model: nn.Module) -> None:
        assert isinstance(model, Translator)
        optimizer = optimizer_of(model)
        for _ in range(20):
            for i in torch.randperm(len(train)).tolist():
                training_step(model, optimizer, train[i])

    return Case(
        Translator(),
        train,
        loss_fn,
        train_it,
        lambda model: accuracy(model, test),
        chance=1 / (WORDS - 1),
        good=0.9,
        accept={"right": {"gradients not zeroed"}, "partly": {"step size", "saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda _: {"training_step": training_step, "optimizer": optimizer_of},
    )
