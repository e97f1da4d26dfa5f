"""Results as plain records: what was trained, measured and diagnosed.

Records can be written to JSON and read back. Nothing here trains, measures or draws.
"""

from throughtime.results.comparison import (
    Comparison,
    Curve,
    GradientReach,
    ModelRuns,
    Run,
    Spread,
    TaskFacts,
    spread,
)
from throughtime.results.diagnosis import (
    Cause,
    Diagnosis,
    Estimate,
    Fact,
    Finding,
    Picture,
    Remedy,
    Series,
)
from throughtime.results.reproduction import Checked, Measured, Reproduction

__all__ = [
    "Cause",
    "Checked",
    "Comparison",
    "Curve",
    "Diagnosis",
    "Estimate",
    "Fact",
    "Finding",
    "GradientReach",
    "Measured",
    "ModelRuns",
    "Picture",
    "Remedy",
    "Reproduction",
    "Run",
    "Series",
    "Spread",
    "TaskFacts",
    "spread",
]
