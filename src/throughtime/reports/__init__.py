"""Tables, figures and pages from the folders of finished runs. Never trains, never measures."""

from throughtime.reports.comparison import (
    Comparison,
    Curve,
    GradientReach,
    ModelRuns,
    Run,
    Spread,
    TaskFacts,
    spread,
)
from throughtime.reports.read import read_comparison, read_run

__all__ = [
    "Comparison",
    "Curve",
    "GradientReach",
    "ModelRuns",
    "Run",
    "Spread",
    "TaskFacts",
    "read_comparison",
    "read_run",
    "spread",
]
