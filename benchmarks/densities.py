"""Densities of binary images: draws and training steps beside usual PyTorch code, one thread."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.core.errors import ThroughtimeError
from throughtime.models import MADE, NADE
from throughtime.tasks.kinds import Pixels

_KIND, _HIDDEN, _BATCH = Pixels(28, 28), 500, 100


@benchmark("densities")
def densities(rounds: int) -> list[Row]:
    """NADE's and MADE's draws, and NADE's training step: 784 pixels, 500 units, batches of 100."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        return [*_draws(rounds), *_training(rounds)]
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _draws(rounds: int) -> list[Row]:
    nade, made = NADE(_KIND, _HIDDEN), MADE(_KIND, _HIDDEN)
    for bias in (nade.bias, made.linears[-1].bias):
        bias.fill_(math.log(0.13 / 0.87))  # as many ones as binarised MNIST has
    usual = _UsualMADE(made)
    x = (torch.rand(_BATCH, 784) < 0.13).float()
    _check(usual(x), made.logits(x, made.orderings[0]))
    runs: dict[str, Callable[[], object]] = {
        "MADE, all logits of each pass": lambda: usual.sample(_BATCH),
        "MADE.sample": lambda: made.sample(_BATCH),
        "NADE.sample": lambda: nade.sample(_BATCH),
    }
    case = f"{_BATCH} draws, D=784 H={_HIDDEN}"
    return compare(case, runs, "MADE, all logits of each pass", rounds)


def _training(rounds: int) -> list[Row]:
    nade = NADE(_KIND, _HIDDEN)
    x = (torch.rand(_BATCH, 784) < 0.13).float()
    weights = list(nade.parameters())

    def usual() -> tuple[Tensor, ...]:
        a, logits = nade.hidden_bias.expand(_BATCH, -1), []
        for d in range(784):
            logits.append(a.sigmoid() @ nade.readout[d] + nade.bias[d])
            a = a + x[:, d : d + 1] * nade.weight[d]
        loss = F.binary_cross_entropy_with_logits(torch.stack(logits, 1), x, reduction="sum")
        return torch.autograd.grad(loss / _BATCH, weights)

    def ours() -> tuple[Tensor, ...]:
        return torch.autograd.grad(-nade.log_prob(x).mean(), weights)

    for found, expected in zip(ours(), usual(), strict=True):
        _check(found, expected)
    runs = {"loop over pixels": usual, "NADE.log_prob": ours}
    case = f"NADE, training step, B={_BATCH} D=784 H={_HIDDEN}"
    return compare(case, runs, "loop over pixels", rounds)


class _UsualMADE(nn.Module):
    """Two masked linear maps, and a pass over all pixels for each pixel that is drawn."""

    def __init__(self, made: MADE):
        super().__init__()
        places = torch.argsort(made.orderings[0])
        lower, upper = made.linears[0], made.linears[-1]
        first = lower.weight * (places < made.degrees[:, None])
        last = upper.weight * (made.degrees <= places[:, None])
        self.maps = nn.Sequential(nn.Linear(784, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 784))
        for layer, own, weight in zip(self.maps[::2], (lower, upper), (first, last), strict=True):
            layer.load_state_dict({"weight": weight, "bias": own.bias})

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)

    def sample(self, count: int) -> Tensor:
        x = torch.zeros(count, 784)
        for d in range(784):
            x[:, d] = self(x)[:, d].sigmoid().bernoulli()
        return x


def _check(found: Tensor, expected: Tensor) -> None:
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise ThroughtimeError("results differ: no figure is given")
