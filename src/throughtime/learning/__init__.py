"""Ways of finding gradients through time, backwards and forwards, over chunks of any length."""

from throughtime.core.learnable import StepwiseModel
from throughtime.learning.backpropagation import BPTT, TruncatedBPTT
from throughtime.learning.kronecker import KFRTRL
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update
from throughtime.learning.propagation import GradientPropagation
from throughtime.learning.real_time import RTRL, SnAp
from throughtime.learning.unbiased import UORO, NoBackTrack

__all__ = [
    "BPTT",
    "KFRTRL",
    "RTRL",
    "UORO",
    "Chunk",
    "GradientPropagation",
    "Learner",
    "LearnerState",
    "NoBackTrack",
    "SnAp",
    "StepwiseModel",
    "TruncatedBPTT",
    "Update",
]
