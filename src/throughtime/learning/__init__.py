"""Ways of learning through time: gradients, backwards and forwards, and search without them."""

from throughtime.cells import ThresholdCell
from throughtime.core.scoring import StepwiseModel
from throughtime.learning.backpropagation import BPTT, TruncatedBPTT
from throughtime.learning.curvature import PseudoNewton
from throughtime.learning.learner import (
    Chunk,
    Learner,
    LearnerState,
    StreamStep,
    Update,
    learn,
    load_state,
    state_dict,
)
from throughtime.learning.nesterov import Nesterov
from throughtime.learning.propagation import GradientPropagation
from throughtime.learning.proposers import (
    MultigridSearch,
    Proposer,
    RandomGuessing,
    SearchState,
    SimulatedAnnealing,
    search,
)
from throughtime.learning.real_time import RFLO, RTRL, SnAp
from throughtime.learning.registry import LEARNERS
from throughtime.learning.rescaled import Rescaled
from throughtime.learning.target_propagation import (
    DiscreteErrorPropagation,
    TargetPropagation,
)
from throughtime.learning.unbiased import KFRTRL, UORO, NoBackTrack

__all__ = [
    "BPTT",
    "KFRTRL",
    "LEARNERS",
    "RFLO",
    "RTRL",
    "UORO",
    "Chunk",
    "DiscreteErrorPropagation",
    "GradientPropagation",
    "Learner",
    "LearnerState",
    "MultigridSearch",
    "Nesterov",
    "NoBackTrack",
    "Proposer",
    "PseudoNewton",
    "RandomGuessing",
    "Rescaled",
    "SearchState",
    "SimulatedAnnealing",
    "SnAp",
    "StepwiseModel",
    "StreamStep",
    "TargetPropagation",
    "ThresholdCell",
    "TruncatedBPTT",
    "Update",
    "learn",
    "load_state",
    "search",
    "state_dict",
]
