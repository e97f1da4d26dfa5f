"""The collate function sorts the texts of a batch by length for packing, and not their labels.

Kind: sorting for pack_padded_sequence that forgets the labels; facebookresearch/InferSent#51 is a
thread on the order after sorting.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from benchmarks.doctor.field_case import Case, accuracy, cross_entropy, fit

WORDS, CLASSES = 50, 3

Text = tuple[Tensor, int]


class TextClassifier(nn.Module):
    """A packed LSTM over texts that come longest first."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.linear = nn.Linear(32, CLASSES)

    def forward(self, texts: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(texts), lengths, batch_first=True)
        _, (h, _) = self.lstm(packed)
        return self.linear(h[-1])


def dataset(count: int) -> list[Text]:
    """Return texts of 6 to 30 words with two words of one of three groups of five."""
    items: list[Text] = []
    for label in torch.randint(CLASSES, (count,)).tolist():
        text = torch.randint(16, WORDS, (int(torch.randint(6, 31, ())),))
        text[torch.randperm(len(text))[:2]] = 1 + 5 * label + torch.randint(5, (2,))
        items.append((text, label))
    return items


def make(faulty: bool) -> Case:
    """Return the program; the faulty one collects the labels before it sorts."""

    def collate(items: list[Text]) -> tuple[Tensor, Tensor, Tensor]:
        ordered = sorted(items, key=lambda item: len(item[0]), reverse=True)
        texts = [text for text, _ in ordered]
        labels = [label for _, label in (items if faulty else ordered)]
        lengths = torch.tensor([len(text) for text in texts])
        return pad_sequence(texts, batch_first=True), lengths, torch.tensor(labels)

    items = dataset(1280)
    batches = [collate(items[i : i + 32]) for i in range(0, len(items), 32)]
    train, test = batches[:32], batches[32:]
    return Case(
        TextClassifier(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=8),
        lambda model: accuracy(model, test),
        chance=1 / CLASSES,
        good=0.9,
        accept={"right": {"no dependence found"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
