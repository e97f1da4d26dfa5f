"""Models: a recurrent layer with what turns its outputs into answers."""

from throughtime.models.readout import LanguageModel, SequenceModel
from throughtime.models.registry import MODELS, build_model

__all__ = ["MODELS", "LanguageModel", "SequenceModel", "build_model"]
