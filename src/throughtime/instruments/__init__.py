"""Instruments: what a recurrent network can and cannot remember, measured."""

from throughtime.core.jacobian import Dynamics
from throughtime.foreign.adapters import Steps, register
from throughtime.foreign.recording import Recording, record
from throughtime.instruments.alignment import Alignment, alignment
from throughtime.instruments.basins import Basins, Plane, axes_plane, basins, principal_plane
from throughtime.instruments.cliffs import LossCurve, Wall, loss_along
from throughtime.instruments.complexity import architecture_of, complexity
from throughtime.instruments.decoding import MemoryDecoding, memory_decoding
from throughtime.instruments.depth import DepthFlow, gradient_by_depth, jacobians_by_depth
from throughtime.instruments.fixed_points import FixedPoints, fixed_points, recorded_fixed_points
from throughtime.instruments.forward_memory import PerturbationSurvival, perturbation_survival
from throughtime.instruments.gates import GateActivity, GateStatistics, gate_activity
from throughtime.instruments.gradient_flow import (
    GradientFlow,
    GradientNorms,
    gradient_flow,
    gradient_norms,
)
from throughtime.instruments.input_influence import InputInfluence, input_influence
from throughtime.instruments.jacobians import Jacobians, jacobians
from throughtime.instruments.length_extrapolation import LengthExtrapolation, length_extrapolation
from throughtime.instruments.lyapunov import (
    LyapunovSpectrum,
    lyapunov_exponents,
    lyapunov_spectrum,
)
from throughtime.instruments.memory_accesses import MemoryAccesses, memory_accesses
from throughtime.instruments.one_unit import (
    LatchSurvival,
    latch_survival,
    one_unit_bifurcation,
    one_unit_fixed_points,
    one_unit_map,
    robust_latching_bound,
)
from throughtime.instruments.scalar_maps import (
    Bifurcation,
    Cycles,
    PhaseLine,
    ScalarFixedPoints,
    bifurcation,
    cobweb,
    phase_line,
    scalar_cycles,
    scalar_fixed_points,
)
from throughtime.instruments.word_influence import WordInfluence, word_influence

__all__ = [
    "Alignment",
    "Basins",
    "Bifurcation",
    "Cycles",
    "DepthFlow",
    "Dynamics",
    "FixedPoints",
    "GateActivity",
    "GateStatistics",
    "GradientFlow",
    "GradientNorms",
    "InputInfluence",
    "Jacobians",
    "LatchSurvival",
    "LengthExtrapolation",
    "LossCurve",
    "LyapunovSpectrum",
    "MemoryAccesses",
    "MemoryDecoding",
    "PerturbationSurvival",
    "PhaseLine",
    "Plane",
    "Recording",
    "ScalarFixedPoints",
    "Steps",
    "Wall",
    "WordInfluence",
    "alignment",
    "architecture_of",
    "axes_plane",
    "basins",
    "bifurcation",
    "cobweb",
    "complexity",
    "fixed_points",
    "gate_activity",
    "gradient_by_depth",
    "gradient_flow",
    "gradient_norms",
    "input_influence",
    "jacobians",
    "jacobians_by_depth",
    "latch_survival",
    "length_extrapolation",
    "loss_along",
    "lyapunov_exponents",
    "lyapunov_spectrum",
    "memory_accesses",
    "memory_decoding",
    "one_unit_bifurcation",
    "one_unit_fixed_points",
    "one_unit_map",
    "perturbation_survival",
    "phase_line",
    "principal_plane",
    "record",
    "recorded_fixed_points",
    "register",
    "robust_latching_bound",
    "scalar_cycles",
    "scalar_fixed_points",
    "word_influence",
]
