"""Learning from a stream of 100,000 steps: what the process takes, early and late."""

import itertools
import resource
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.registry import Row, benchmark
from throughtime.cells import LSTMCell
from throughtime.core.state import state_tensors
from throughtime.learning import UORO, Chunk, StepwiseModel, learn

STEPS, FIRST = 100_000, 5_000


@benchmark("endless")
def endless(rounds: int) -> list[Row]:
    """Memory of learning one step after the other by UORO, after 5,000 and after 100,000 steps."""
    del rounds
    torch.manual_seed(0)
    model = StepwiseModel(LSTMCell(2, 16), nn.Linear(16, 1), _squared)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    steps = learn(model, UORO(), optimizer, _stream(), clip_norm=1.0)
    rows: list[Row] = []
    for step in itertools.islice(steps, STEPS):
        if step.diverged:
            raise SystemExit(f"diverged at step {step.number}: not reported")
        if step.number + 1 in (FIRST, STEPS):
            case = f"UORO, LSTM H=16, {step.number + 1:,} steps"
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            kept = sum(t.nbytes for t in state_tensors(step.state)) / 1024
            rows.append(Row(case, "process", "peak", peak, peak, peak, "MiB"))
            rows.append(Row(case, "learner", "state", kept, kept, kept, "KiB"))
    return rows


def _stream() -> Iterator[Chunk]:
    random = torch.Generator().manual_seed(0)
    while True:
        x = torch.randn(1, 1, 2, generator=random)
        yield Chunk(x, x.sum(-1, keepdim=True))


def _squared(answers: Tensor, targets: Tensor) -> Tensor:
    return (answers - targets).square().mean(-1)
