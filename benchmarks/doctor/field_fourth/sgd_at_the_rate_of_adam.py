"""A tagger is trained by SGD with 0.001, the rate that Adam has by default.

Source: GitHub rajveermalviya/language-modeling#3 and testdotai/classifier-builder#6 (a rate that
suits one optimiser and not the other).
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit

TAGS, WORDS, LENGTH = 4, 20, 12


class LSTMTagger(nn.Module):
    """An LSTM with a score for each tag at each word."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.hidden2tag = nn.Linear(32, TAGS)

    def forward(self, sentence: Tensor) -> Tensor:
        lstm_out, _ = self.lstm(self.word_embeddings(sentence))
        return self.hidden2tag(lstm_out)


def make(faulty: bool) -> Case:
    """Return the program; the tag is the kind of the word, shifted if the last word was even."""
    sentence = torch.randint(WORDS, (1280, LENGTH))
    after_even = torch.zeros_like(sentence)
    after_even[:, 1:] = (sentence[:, :-1] + 1) % 2
    batches = batched(sentence, (sentence // 5 + after_even) % TAGS)
    train, test = batches[:32], batches[32:]

    def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.001 if faulty else 0.3, momentum=0.9)

    return Case(
        LSTMTagger(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, 20, optimizer=optimizer_of(model)),
        lambda model: accuracy(model, test),
        chance=1 / TAGS,
        good=0.9,
        accept={"right": {"step size"}, "partly": {"undertrained"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda _: {"optimizer": optimizer_of},
    )
