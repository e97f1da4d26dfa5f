"""Bytes that a training step of 1,001 layers stores, with recomputation and without."""

import torch

from benchmarks.registry import Row, benchmark
from throughtime.models import ResidualNetwork
from throughtime.tasks.kinds import Classes, Images
from throughtime.testing.depth import saved_bytes

_DEPTH, _WIDTH, _BATCH = 1001, 64, 128


@benchmark("depth")
def depth(rounds: int) -> list[Row]:
    """Stored activations of 1,001 pre-activation layers, the largest segment's included."""
    del rounds
    case = f"pre-activation depth={_DEPTH} width={_WIDTH} batch={_BATCH}"
    stored, kept = (_saved(recompute) for recompute in (False, True))
    segment = largest_segment()
    found = {
        "all stored": (stored / 1e6, "MB"),
        "recomputed": ((kept + segment) / 1e6, "MB"),
        "share": (100 * (kept + segment) / stored, "%"),
    }
    return [
        Row(case, name, "stored", value, value, value, unit)
        for name, (value, unit) in found.items()
    ]


def _saved(recompute: bool) -> int:
    torch.manual_seed(0)
    images = Images(28, 28)
    network = ResidualNetwork(images, Classes(10), _DEPTH, widths=(_WIDTH,), recompute=recompute)
    return saved_bytes(network, torch.randn(_BATCH, 1, 28, 28))


def largest_segment() -> int:
    """Return the bytes that the backward pass of the largest segment stores."""
    network = ResidualNetwork(Images(28, 28), Classes(10), _DEPTH, widths=(_WIDTH,))
    blocks = list(network.blocks)
    count = round(len(blocks) ** 0.5)
    longest = max((k + 1) * len(blocks) // count - k * len(blocks) // count for k in range(count))
    h = torch.randn(_BATCH, _WIDTH, requires_grad=True)
    return saved_bytes(torch.nn.Sequential(*blocks[:longest]), h)
