"""F.dropout on the one-hot letters is without the training flag: it stays on in evaluation.

Source: GitHub BogiHsu/Tacotron2-PyTorch#8, "Set training=self.training in dropout".
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, classifier

LETTERS, LENGTH, LANGUAGES = 28, 14, 4


class LanguageClassifier(nn.Module):
    """A GRU over the one-hot letters of a word, with dropout on the letters."""

    def __init__(self, rate: float, always: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(LETTERS, 32, batch_first=True)
        self.fc = nn.Linear(32, LANGUAGES)
        self.rate = rate
        self.always = always

    def forward(self, word: Tensor) -> Tensor:
        x = F.one_hot(word, LETTERS).float()
        x = F.dropout(x, self.rate, training=self.always or self.training)
        _, h = self.gru(x)
        return self.fc(h[-1])


def words(count: int) -> tuple[Tensor, Tensor]:
    """Return words with one accented letter (0 to 7), two for each language, and the language."""
    language = torch.randint(LANGUAGES, (count,))
    word = torch.randint(2 * LANGUAGES, LETTERS, (count, LENGTH))
    place = torch.randint(LENGTH, (count, 1))
    accent = 2 * language[:, None] + torch.randint(2, (count, 1))
    return word.scatter(1, place, accent), language


def make(faulty: bool) -> Case:
    """Return the program; the faulty one drops 7 letters of 10 in evaluation too."""
    batches = batched(*words(1536))
    return classifier(
        LanguageClassifier(0.7, always=faulty),
        batches[:40],
        batches[40:],
        {"right": {"dropout"}, "partly": set()} if faulty else {"healthy", "no long dependency"},
        epochs=20,
        classes=LANGUAGES,
        good=0.85,
    )
