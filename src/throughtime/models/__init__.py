"""Models: a recurrent layer with what turns its outputs into answers."""

from throughtime.core.sampling import Sampling
from throughtime.models.generation import generate
from throughtime.models.readout import LanguageModel, SequenceModel
from throughtime.models.registry import MODELS, build_model

__all__ = ["MODELS", "LanguageModel", "Sampling", "SequenceModel", "build_model", "generate"]
