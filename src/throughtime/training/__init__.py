"""Training: the loop, its configuration and results, and what it keeps on disk."""

from throughtime.results.atomic import SCHEMA_VERSION, read_json, write_json
from throughtime.training.building import load_model
from throughtime.training.clipping import Clipping, gradient_norm
from throughtime.training.config import RunConfig
from throughtime.training.environment import Environment, current_environment
from throughtime.training.evaluation import evaluate
from throughtime.training.observer import Evaluated, Event, Finished, Observer, Progress, Started
from throughtime.training.optimizers import build_optimizer, learning_rate, optimizer_names
from throughtime.training.result import Divergence, Result
from throughtime.training.run import train
from throughtime.training.run_folder import RunFolder, read_metrics

__all__ = [
    "SCHEMA_VERSION",
    "Clipping",
    "Divergence",
    "Environment",
    "Evaluated",
    "Event",
    "Finished",
    "Observer",
    "Progress",
    "Result",
    "RunConfig",
    "RunFolder",
    "Started",
    "build_optimizer",
    "current_environment",
    "evaluate",
    "gradient_norm",
    "learning_rate",
    "load_model",
    "optimizer_names",
    "read_json",
    "read_metrics",
    "train",
    "write_json",
]
