"""A tagger views its embeddings as (words, 1, features): each word is a sentence of its own.

Source: GitHub pytorch/examples#158, "Shapes in SNLI" (which axis is the sentence); kind: a view
that is copied from a tutorial with one sentence at a time into a model with batches.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

TAGS, WORDS, LENGTH = 5, 30, 14


class PartOfSpeech(nn.Module):
    """A GRU with a score for each tag at each word."""

    def __init__(self, words_alone: bool) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(WORDS, 16)
        self.gru = nn.GRU(16, 32, batch_first=True)
        self.hidden2tag = nn.Linear(32, TAGS)
        self.words_alone = words_alone

    def forward(self, sentences: Tensor) -> Tensor:
        embeds = self.embeddings(sentences)
        if self.words_alone:
            embeds = embeds.view(sentences.numel(), 1, -1)
        gru_out, _ = self.gru(embeds)
        return self.hidden2tag(gru_out).view(*sentences.shape, TAGS)


def make(faulty: bool) -> Case:
    """Return the program; the tag is the sum of the kinds of a word and of the one before it."""
    sentences = torch.randint(WORDS, (1280, LENGTH))
    kind = sentences % TAGS
    tags = kind.clone()
    tags[:, 1:] = (kind[:, 1:] + kind[:, :-1]) % TAGS
    batches = batched(sentences, tags)
    return classifier(
        PartOfSpeech(words_alone=faulty),
        batches[:32],
        batches[32:],
        {"right": {"one-step sequences"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        classes=TAGS,
        lr=0.02,
    )
