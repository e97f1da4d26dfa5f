"""How far one draw of a random gradient is from the gradient, by the length of what is learnt."""

import math

import torch
from torch import Tensor, nn

from benchmarks.registry import Row, benchmark
from throughtime.cells import ElmanCell, GRUCell, LeakyCell, LSTMCell
from throughtime.core.errors import ThroughtimeError
from throughtime.learning import KFRTRL, RTRL, UORO, Chunk, Learner, NoBackTrack, StepwiseModel

LENGTHS, GROUPS, DRAWS, WIDTH, HIDDEN = (3, 10, 30), 20, 200, 2, 8
CELLS = {"tanh network": ElmanCell, "LSTM": LSTMCell, "GRU": GRUCell, "leaky units": LeakyCell}
LEARNERS = {"UORO": UORO(), "NoBackTrack": NoBackTrack(), "KF-RTRL": KFRTRL()}


@benchmark("variance")
def variance(rounds: int) -> list[Row]:
    """sqrt(E ||g - G||^2) / ||G|| of a sequence's estimate g of its gradient G by the cell."""
    del rounds
    rows: list[Row] = []
    for name, kind in CELLS.items():
        for called, learner in LEARNERS.items():
            if called == "KF-RTRL" and name == "GRU":
                continue  # refused: of two linear maps there is no Kronecker product
            for time in LENGTHS:
                found = _spread(kind, learner, time)
                case = f"{name} I={WIDTH} H={HIDDEN} T={time}"
                rows.append(Row(case, called, "the gradient", found, found, found, "its length"))
    return rows


def _spread(kind: type, learner: Learner, time: int) -> float:
    torch.manual_seed(0)
    model = StepwiseModel(kind(WIDTH, HIDDEN), nn.Linear(HIDDEN, 2), _squared).double()
    x, y = torch.randn(time, 1, WIDTH).double(), torch.randn(time, 1, 2).double()
    exact = _flat(RTRL().update(model, RTRL().init(model, 1), Chunk(x, y)).gradients)
    many = Chunk(x.expand(-1, DRAWS, -1), y.expand(-1, DRAWS, -1))
    means = torch.stack(
        [
            _flat(learner.update(model, learner.init(model, DRAWS, seed=seed), many).gradients)
            for seed in range(GROUPS)
        ]
    )
    mean = means.mean(0)
    variance = float((means - mean).square().sum() / (GROUPS - 1) * DRAWS)
    # the mean of all draws is as far from the gradient as their variance allows
    if float((mean - exact).norm()) > 4 * math.sqrt(variance / (GROUPS * DRAWS)):
        raise ThroughtimeError("an estimate is biased: no figure is given")
    return math.sqrt(variance) / float(exact.norm())


def _flat(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([g.flatten() for name, g in gradients.items() if name.startswith("cell.")])


def _squared(answers: Tensor, targets: Tensor) -> Tensor:
    return (answers - targets).square().sum(-1)
