"""What the gradient propagation penalty costs beside backpropagation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.cells import ElmanCell, GRUCell, LSTMCell
from throughtime.core.errors import ThroughtimeError
from throughtime.learning import BPTT, Chunk, GradientPropagation, StepwiseModel

SIZES = ((20, 50, 50), (20, 150, 50), (32, 200, 128))
WIDTH, CLASSES = 6, 4


@benchmark("penalty")
def penalty(rounds: int) -> list[Row]:
    """An update of the tanh network, the GRU and the LSTM, with the penalty and without."""
    rows: list[Row] = []
    for kind in (ElmanCell, GRUCell, LSTMCell):
        for batch, time, hidden in SIZES:
            torch.manual_seed(0)
            model = StepwiseModel(kind(WIDTH, hidden), nn.Linear(hidden, CLASSES), _loss)
            targets = torch.randint(CLASSES, (time, batch))
            # a loss at every step: with one at the end subnormal numbers would be measured
            chunk = Chunk(torch.randn(time, batch, WIDTH), targets)
            learners = {
                "BPTT": BPTT(),
                "BPTT, eager": BPTT("eager"),
                "with the penalty": GradientPropagation(),
            }
            states = {name: one.init(model, batch) for name, one in learners.items()}
            found = {n: one.update(model, states[n], chunk) for n, one in learners.items()}
            if not torch.allclose(found["BPTT"].loss, found["with the penalty"].loss):
                raise ThroughtimeError("losses differ: no figure is given")
            runs = {
                name: lambda one=one, state=states[name], model=model, chunk=chunk: one.update(
                    model, state, chunk
                )
                for name, one in learners.items()
            }
            case = f"{kind.__name__} B={batch} T={time} I={WIDTH} H={hidden}"
            rows += compare(case, runs, "with the penalty", rounds)
    return rows


def _loss(answers: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(answers, targets, reduction="none")
