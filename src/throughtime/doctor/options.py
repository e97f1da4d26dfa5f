"""Arguments of a diagnosis beside model, data and loss."""

import dataclasses

from throughtime.doctor.history import History
from throughtime.doctor.user_training import OptimizerOf, TrainingStep


@dataclasses.dataclass(frozen=True)
class Options:
    """Arguments of `diagnose` beside model, data and loss.

    Attributes:
        lag: length of the dependency.
        training_step, optimizer: the user's own step, and a maker of the user's optimiser.
        history: record of the user's training.
        remedies: If True, remedies are tried.
        seed: seed of orders and noise.
    """

    lag: int | None = None
    training_step: TrainingStep | None = None
    optimizer: OptimizerOf | None = None
    history: History | None = None
    remedies: bool = True
    seed: int = 0
