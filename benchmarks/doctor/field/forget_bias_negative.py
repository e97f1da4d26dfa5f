"""The forget gates are initialised with a bias of -6 instead of a positive one.

Source: GitHub keras-team/keras#7028, "Biases for LSTM and GRU forget gates", and coetaur0/ESIM#2,
"question about model parameter initialization".
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class Encoder(nn.Module):
    """A packed LSTM over sequences of different lengths, and a classifier."""

    def __init__(self, forget_bias, vocab_size=15, emb=12, hidden=24, n_classes=3):
        super().__init__()
        self.word_embedding = nn.Embedding(vocab_size, emb, padding_idx=0)
        self.lstm = nn.LSTM(emb, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, n_classes)
        self._init_weights(forget_bias)

    def _init_weights(self, forget_bias):
        for name, param in self.lstm.named_parameters():
            if "weight_ih" in name:
                nn.init.xavier_uniform_(param)
            elif "weight_hh" in name:
                nn.init.orthogonal_(param)
            else:
                nn.init.zeros_(param)
            if "bias_hh" in name:
                hidden_size = param.data.shape[0] // 4
                param.data[hidden_size : 2 * hidden_size] = forget_bias

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(
            self.word_embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        _, (h_n, _) = self.lstm(packed)
        return self.fc(h_n[-1])


def sentences(count, longest=24):
    """Return padded sentences whose first word is the class, and their lengths."""
    lengths = torch.randint(12, longest + 1, (count,))
    ids = torch.randint(4, 15, (count, longest))
    label = torch.randint(3, (count,))
    ids[:, 0] = label + 1
    ids[torch.arange(longest) >= lengths[:, None]] = 0
    return ids, lengths, label


def make(faulty: bool) -> Case:
    """Return the program; the forget gates of the faulty one are closed."""
    batches, held_out = batched(*sentences(40 * 32)), batched(*sentences(512))
    return Case(
        Encoder(forget_bias=-6.0 if faulty else 2.0),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=12, lr=0.005),
        lambda model: accuracy(model, held_out),
        chance=1 / 3,
        good=0.9,
        accept={"right": {"forgetting"}, "partly": {"vanishing gradient"}}
        if faulty
        else {"healthy"},
    )
