"""A batch is sorted by length and packed, and the answers keep the sorted order.

Source: city.shaform.com, "Sort Sequences in PyTorch" (the step that is left out), and
facebookresearch/InferSent, issue 51. Data: names of characters in Unicode; the class is the script.
"""

import unicodedata

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.doctor.field_case import (
    Case,
    accuracy,
    batched,
    cross_entropy,
    fit,
    letters,
)

SCRIPTS = (
    "HANGUL SYLLABLE",
    "YI SYLLABLE",
    "ETHIOPIC SYLLABLE",
    "VAI SYLLABLE",
    "BAMUM LETTER",
    "CUNEIFORM SIGN",
    "CANADIAN SYLLABICS",
    "KATAKANA LETTER",
)


class NameClassifier(nn.Module):
    def __init__(self, restore: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(28, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.hidden2label = nn.Linear(32, len(SCRIPTS))
        self.restore = restore

    def forward(self, names: Tensor, lengths: Tensor) -> Tensor:
        lengths, order = lengths.sort(descending=True)
        packed = pack_padded_sequence(self.embed(names[order]), lengths, batch_first=True)
        _, (ht, _) = self.lstm(packed)
        last = ht[-1]
        if self.restore:
            last = last[order.argsort()]
        return self.hidden2label(last)


def names(per_script: int) -> tuple[Tensor, Tensor, Tensor]:
    rows, sizes, classes = [], [], []
    every = [unicodedata.name(chr(i), "") for i in range(0x14000)]
    for label, script in enumerate(SCRIPTS):
        found = [n.removeprefix(script + " ") for n in every if n.startswith(script)]
        for i in torch.randint(len(found), (per_script,)).tolist():
            rows.append(letters(found[i], 16))
            sizes.append(min(len(found[i]), 16))
            classes.append(label)
    order = torch.randperm(len(rows))
    return (
        torch.tensor(rows)[order],
        torch.tensor(sizes)[order],
        torch.tensor(classes)[order],
    )


def make(faulty: bool) -> Case:
    batches = batched(*names(160))
    train, test = batches[:32], batches[32:]
    return Case(
        NameClassifier(restore=not faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=22),
        lambda model: accuracy(model, test),
        chance=1 / len(SCRIPTS),
        good=0.65,
        accept={"right": {"samples mixed"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
