"""A training step of the study penn-treebank beside the same model in plain torch.nn.

The tied model of two layers of 200 units and 10,000 words, 20 rows of 35 words, dropout of 0.2; a
step is a forward and a backward pass, clipping, and an update of SGD.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime import LSTM
from throughtime.models import LanguageModel

WORDS, HIDDEN, LAYERS, DROPOUT = 10_000, 200, 2, 0.2
TIME, BATCH = 35, 20


class PlainLanguageModel(nn.Module):
    """The equations of `LanguageModel` in the modules of torch.nn."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, HIDDEN)
        self.layer = nn.LSTM(HIDDEN, HIDDEN, LAYERS, dropout=DROPOUT)
        self.readout = nn.Linear(HIDDEN, WORDS)
        self.readout.weight = self.embedding.weight

    def loss(self, symbols: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of the targets."""
        read = F.dropout(self.embedding(symbols), DROPOUT)
        outputs = F.dropout(self.layer(read)[0], DROPOUT)
        return F.cross_entropy(self.readout(outputs).flatten(0, 1), targets.flatten())


@benchmark("language-model")
def language_model(rounds: int) -> list[Row]:
    """A training step of the study penn-treebank."""
    torch.manual_seed(0)
    symbols, targets = torch.randint(WORDS, (2, TIME, BATCH))
    layer = LSTM(HIDDEN, HIDDEN, LAYERS, dropout=DROPOUT)
    ours = LanguageModel(layer, WORDS, tied=True, dropout=DROPOUT)
    plain = PlainLanguageModel()
    return compare(
        f"V={WORDS:,} L={LAYERS} H={HIDDEN} B={BATCH} T={TIME}, training step",
        {
            "tt.LanguageModel": _step(ours, lambda: ours.losses(symbols, targets, None)[0].mean()),
            "torch.nn": _step(plain, lambda: plain.loss(symbols, targets)),
        },
        "torch.nn",
        rounds,
    )


def _step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()

    return step
