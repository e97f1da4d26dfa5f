"""Ways of learning by name: `truncated-bptt:every=5,window=20`."""

from throughtime.core.registry import Registry
from throughtime.learning.backpropagation import BPTT, TruncatedBPTT
from throughtime.learning.curvature import PseudoNewton
from throughtime.learning.learner import Learner
from throughtime.learning.proposers import (
    MultigridSearch,
    Proposer,
    RandomGuessing,
    SimulatedAnnealing,
)
from throughtime.learning.real_time import RFLO, RTRL, Feedback, SnAp
from throughtime.learning.target_propagation import DiscreteErrorPropagation, TargetPropagation
from throughtime.learning.unbiased import KFRTRL, UORO, NoBackTrack

LEARNERS: Registry[Learner | Proposer] = Registry("learner")
"""All ways of learning by name. Builders take their options alone."""


@LEARNERS.register("bptt")
def _bptt() -> Learner:
    """Backpropagation through time: the whole gradient of each batch, on any engine."""
    return BPTT()


@LEARNERS.register("memory-bptt")
def _memory_bptt(*, cut: str = "h") -> Learner:
    """Backpropagation through the memories alone: the truncated gradient of LSTM 1997."""
    return BPTT(cut=tuple(cut.split("+")))


@LEARNERS.register("truncated-bptt")
def _truncated_bptt(*, every: int = 5, window: int = 10) -> Learner:
    """Backpropagation every k1 steps, through the last k2 = window."""
    return TruncatedBPTT(every, window)


@LEARNERS.register("rtrl")
def _rtrl() -> Learner:
    """Real-time recurrent learning: the whole gradient, forward in time."""
    return RTRL()


@LEARNERS.register("snap")
def _snap(*, order: int = 1) -> Learner:
    """RTRL by what a parameter reaches within n steps (Menick et al. 2020)."""
    return SnAp(order)


@LEARNERS.register("kf-rtrl")
def _kf_rtrl() -> Learner:
    """RTRL by a random Kronecker product, right in the mean (Mujika et al. 2018)."""
    return KFRTRL()


@LEARNERS.register("uoro")
def _uoro() -> Learner:
    """RTRL by a random product of two vectors, right in the mean (Tallec and Ollivier 2018)."""
    return UORO()


@LEARNERS.register("nobacktrack")
def _nobacktrack() -> Learner:
    """RTRL by random products, a scale a unit, right in the mean (Ollivier et al. 2015)."""
    return NoBackTrack()


@LEARNERS.register("rflo")
def _rflo(*, feedback: Feedback = "random", seed: int = 0) -> Learner:
    """RTRL without the recurrent matrices, errors by random weights (Murray 2019)."""
    return RFLO(feedback, seed)


@LEARNERS.register("pseudo-newton")
def _pseudo_newton(*, mu: float = 1.0) -> Learner:
    """Each step's gradient by that step's own curvature; for SGD (Bengio et al. 1994)."""
    return PseudoNewton(mu)


@LEARNERS.register("target-propagation")
def _target_propagation() -> Learner:
    """Wanted states back through flip-flops; for SGD, model flip-flop (Bengio et al. 1993)."""
    return TargetPropagation()


@LEARNERS.register("discrete-error-propagation")
def _discrete_error_propagation() -> Learner:
    """Errors of -1, 0 and 1 back by chance; for SGD, model threshold (Bengio et al. 1994)."""
    return DiscreteErrorPropagation()


@LEARNERS.register("random-guessing")
def _random_guessing(*, low: float = -100.0, high: float = 100.0) -> Proposer:
    """Weights drawn anew at each trial (Schmidhuber and Hochreiter 1996)."""
    return RandomGuessing(low, high)


@LEARNERS.register("multigrid-search")
def _multigrid_search(
    *, width: float = 5.0, patience: int = 50, shrink: float = 0.5, smallest: float = 1e-3
) -> Proposer:
    """Random search in a box around the best weights, ever smaller (Bengio et al. 1994)."""
    return MultigridSearch(width, patience, shrink, smallest)


@LEARNERS.register("simulated-annealing")
def _simulated_annealing(
    *,
    temperature: float = 1.0,
    step: float = 1.0,
    cycles: int = 20,
    adjustments: int = 100,
    cooling: float = 0.85,
) -> Proposer:
    """Simulated annealing over the weights (Corana et al. 1987)."""
    return SimulatedAnnealing(temperature, step, cycles, adjustments, cooling)
