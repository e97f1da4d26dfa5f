"""The lower encoder of a hierarchical network runs under torch.no_grad().

Source: GitHub pranoyr/cnn-lstm#6, "About with torch.no_grad()".
"""

import contextlib

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class Hierarchical(nn.Module):
    """A GRU over the words of each sentence and a GRU over the sentences of a document."""

    def __init__(self, vocab=16, emb=12, word_hidden=16, sent_hidden=16, classes=3, save=False):
        super().__init__()
        self.save_memory = save
        self.embed = nn.Embedding(vocab, emb)
        self.word_rnn = nn.GRU(emb, word_hidden, batch_first=True)
        self.sent_rnn = nn.GRU(word_hidden, sent_hidden, batch_first=True)
        self.fc = nn.Linear(sent_hidden, classes)

    def encode(self, docs):
        b, s, w = docs.shape
        _, h = self.word_rnn(self.embed(docs.reshape(b * s, w)))
        return h[-1].view(b, s, -1)

    def forward(self, docs):
        with torch.no_grad() if self.save_memory else contextlib.nullcontext():
            sents = self.encode(docs)
        _, h = self.sent_rnn(sents)
        return self.fc(h[-1])


def documents(count, sentences=4, words=9):
    """Return documents whose class is the first word of the first sentence."""
    docs = torch.randint(3, 16, (count, sentences, words))
    topic = torch.randint(3, (count,))
    docs[:, 0, 0] = topic
    return docs, topic


def make(faulty: bool) -> Case:
    """Return the program; the faulty one gives the word level no gradient."""
    batches, held_out = batched(*documents(40 * 32)), batched(*documents(512))
    return Case(
        Hierarchical(save=faulty),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=15),
        lambda model: accuracy(model, held_out),
        chance=1 / 3,
        good=0.9,
        accept={"right": {"not trained", "gradient cut"}, "partly": {"forgetting"}}
        if faulty
        else {"healthy"},
    )
