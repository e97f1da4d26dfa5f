"""Models: a recurrent layer with what turns its outputs into answers."""

from throughtime.models.registry import MODELS, build_model
from throughtime.models.sequence_model import SequenceModel

__all__ = ["MODELS", "SequenceModel", "build_model"]
