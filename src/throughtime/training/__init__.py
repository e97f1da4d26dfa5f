"""Training: the loop, its configuration and results, and what it keeps on disk."""

from throughtime.results.atomic import SCHEMA_VERSION, read_json, write_json
from throughtime.training.checkpoint import load_model
from throughtime.training.config import RunConfig
from throughtime.training.dynamic_evaluation import dynamic_evaluation
from throughtime.training.evaluation import evaluate
from throughtime.training.feedback import (
    FEEDBACKS,
    Fed,
    Feedback,
    FreeRunning,
    LearnedFeedback,
    MixedFeedback,
    ScheduledSampling,
    TeacherForcing,
)
from throughtime.training.generator import Generator, load_generator
from throughtime.training.optimizers import (
    Clipping,
    build_optimizer,
    gradient_norm,
    learning_rate,
    optimizer_names,
)
from throughtime.training.professor_forcing import ProfessorForcing
from throughtime.training.reproducibility import Environment, current_environment
from throughtime.training.result import (
    Divergence,
    Evaluated,
    Event,
    Finished,
    Observer,
    Progress,
    Result,
    Started,
)
from throughtime.training.run import train
from throughtime.training.run_folder import RunFolder, read_metrics

__all__ = [
    "FEEDBACKS",
    "SCHEMA_VERSION",
    "Clipping",
    "Divergence",
    "Environment",
    "Evaluated",
    "Event",
    "Fed",
    "Feedback",
    "Finished",
    "FreeRunning",
    "Generator",
    "LearnedFeedback",
    "MixedFeedback",
    "Observer",
    "ProfessorForcing",
    "Progress",
    "Result",
    "RunConfig",
    "RunFolder",
    "ScheduledSampling",
    "Started",
    "TeacherForcing",
    "build_optimizer",
    "current_environment",
    "dynamic_evaluation",
    "evaluate",
    "gradient_norm",
    "learning_rate",
    "load_generator",
    "load_model",
    "optimizer_names",
    "read_json",
    "read_metrics",
    "train",
    "write_json",
]
