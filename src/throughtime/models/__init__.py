"""Models: a recurrent layer with what turns its outputs into answers."""

from throughtime.models.language_model import LanguageModel
from throughtime.models.registry import MODELS, build_model
from throughtime.models.sequence_model import SequenceModel

__all__ = ["MODELS", "LanguageModel", "SequenceModel", "build_model"]
