"""Models: a recurrent layer with what turns its outputs into answers."""

from throughtime.core.sampling import Sampling
from throughtime.models.beam import Beam, Hypothesis, beam_search
from throughtime.models.encoder_decoder import EncoderDecoder
from throughtime.models.generation import generate, stream
from throughtime.models.language_model import LanguageModel
from throughtime.models.readout import SequenceModel
from throughtime.models.registry import MODELS, build_model
from throughtime.models.translation import translate

__all__ = [
    "MODELS",
    "Beam",
    "EncoderDecoder",
    "Hypothesis",
    "LanguageModel",
    "Sampling",
    "SequenceModel",
    "beam_search",
    "build_model",
    "generate",
    "stream",
    "translate",
]
