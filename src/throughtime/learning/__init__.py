"""Ways of learning through time: gradients, backwards and forwards, and search without them."""

from throughtime.core.learnable import StepwiseModel
from throughtime.learning.backpropagation import BPTT, TruncatedBPTT
from throughtime.learning.kronecker import KFRTRL
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update
from throughtime.learning.local import RFLO
from throughtime.learning.nesterov import Nesterov
from throughtime.learning.online import Lesson, learn, load_state, state_dict
from throughtime.learning.propagation import GradientPropagation
from throughtime.learning.proposers import (
    MultigridSearch,
    Proposer,
    RandomGuessing,
    SearchState,
    SimulatedAnnealing,
    search,
)
from throughtime.learning.real_time import RTRL, SnAp
from throughtime.learning.registry import LEARNERS
from throughtime.learning.unbiased import UORO, NoBackTrack

__all__ = [
    "BPTT",
    "KFRTRL",
    "LEARNERS",
    "RFLO",
    "RTRL",
    "UORO",
    "Chunk",
    "GradientPropagation",
    "Learner",
    "LearnerState",
    "Lesson",
    "MultigridSearch",
    "Nesterov",
    "NoBackTrack",
    "Proposer",
    "RandomGuessing",
    "SearchState",
    "SimulatedAnnealing",
    "SnAp",
    "StepwiseModel",
    "TruncatedBPTT",
    "Update",
    "learn",
    "load_state",
    "search",
    "state_dict",
]
