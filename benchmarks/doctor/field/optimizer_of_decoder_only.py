"""The optimiser of an encoder-decoder has the decoder's parameters, and not the encoder's.

Source: GitHub wiseodd/controlled-text-generation#15, "Bug in optimizer usage", and
cabralpinto/modular-diffusion#17, "Decoder parameters".
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case


class EncoderRNN(nn.Module):
    """A GRU that reads the source."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.embedding = nn.Embedding(input_size, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)

    def forward(self, src):
        _, hidden = self.gru(self.embedding(src))
        return hidden


class DecoderRNN(nn.Module):
    """A GRU that writes the target."""

    def __init__(self, hidden_size, output_size):
        super().__init__()
        self.embedding = nn.Embedding(output_size, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, output_size)

    def forward(self, tgt, hidden):
        output, _ = self.gru(torch.relu(self.embedding(tgt)), hidden)
        return self.out(output)


class Seq2Seq(nn.Module):
    """An encoder and a decoder with teacher forcing."""

    def __init__(self, n_tokens=9, hidden_size=40):
        super().__init__()
        self.encoder = EncoderRNN(n_tokens, hidden_size)
        self.decoder = DecoderRNN(hidden_size, n_tokens)

    def forward(self, src, tgt):
        return self.decoder(tgt, self.encoder(src))


def criterion(model, batch):
    """The cross-entropy of the next target token."""
    logits = model(batch["src"], batch["tgt"][:, :-1])
    return F.cross_entropy(logits.transpose(1, 2), batch["tgt"][:, 1:])


def sentences(count, steps=10):
    """Return sources of ten tokens, and targets: a start token and the first two, reversed."""
    src = torch.randint(1, 9, (count, steps))
    return {"src": src, "tgt": torch.cat([torch.zeros_like(src[:, :1]), src[:, :2].flip(1)], 1)}


def make(faulty: bool) -> Case:
    """Return the program; the faulty one never updates the encoder."""
    batches, held_out = [sentences(64) for _ in range(32)], sentences(512)

    def optimizer_of(model):
        trained = model.decoder if faulty else model
        return torch.optim.Adam(trained.parameters(), lr=0.01)

    def training_step(model, optimizer, batch):
        optimizer.zero_grad()
        loss = criterion(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def fit(model):
        optimizer = optimizer_of(model)
        for _ in range(20):
            for batch in batches:
                training_step(model, optimizer, batch)

    def score(model):
        with torch.no_grad():
            logits = model(held_out["src"], held_out["tgt"][:, :-1])
        return float((logits.argmax(-1) == held_out["tgt"][:, 1:]).float().mean())

    return Case(
        Seq2Seq(),
        batches,
        criterion,
        fit,
        score,
        chance=0.125,
        good=0.85,
        accept={"right": {"not trained"}, "partly": {"forgetting"}} if faulty else {"healthy"},
        options=lambda model: {
            "training_step": training_step,
            "optimizer": optimizer_of(model),
        },
    )
