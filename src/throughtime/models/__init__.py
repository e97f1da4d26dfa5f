"""Models: a recurrent layer with what turns its outputs into answers."""

from throughtime.core.sampling import Sampling
from throughtime.models.beam import Beam, Hypothesis, beam_search
from throughtime.models.dialogue import DialogueModel, ReplyModel
from throughtime.models.encoder_decoder import EncoderDecoder
from throughtime.models.frame_outputs import (
    BernoulliOutput,
    GaussianOutput,
    NADEOutput,
    PenOutput,
)
from throughtime.models.frame_rnn import FrameRNN
from throughtime.models.generation import generate, stream
from throughtime.models.history import AllSymbols, Hierarchy, LastUtterance
from throughtime.models.image_models import GridModel, RasterModel
from throughtime.models.language_model import LanguageModel
from throughtime.models.masked_densities import FVSBN, MADE, GroupedNetwork
from throughtime.models.memn2n import MemN2N
from throughtime.models.memory_network import MemoryNetwork
from throughtime.models.nade import NADE, OrderlessNADE
from throughtime.models.pixel_rnn import PixelCNN, PixelRNN
from throughtime.models.pruning import Dependence, dependence, prune
from throughtime.models.readout import SequenceModel
from throughtime.models.registry import MODELS, build_model
from throughtime.models.replies import NearestReplies, reply
from throughtime.models.residual import ResidualBlock, ResidualNetwork, recomputed
from throughtime.models.story_reader import StoryReader
from throughtime.models.translation import translate
from throughtime.models.vhred import VHRED
from throughtime.models.vrnn import VRNN

__all__ = [
    "FVSBN",
    "MADE",
    "MODELS",
    "NADE",
    "VHRED",
    "VRNN",
    "AllSymbols",
    "Beam",
    "BernoulliOutput",
    "Dependence",
    "DialogueModel",
    "EncoderDecoder",
    "FrameRNN",
    "GaussianOutput",
    "GridModel",
    "GroupedNetwork",
    "Hierarchy",
    "Hypothesis",
    "LanguageModel",
    "LastUtterance",
    "MemN2N",
    "MemoryNetwork",
    "NADEOutput",
    "NearestReplies",
    "OrderlessNADE",
    "PenOutput",
    "PixelCNN",
    "PixelRNN",
    "RasterModel",
    "ReplyModel",
    "ResidualBlock",
    "ResidualNetwork",
    "Sampling",
    "SequenceModel",
    "StoryReader",
    "beam_search",
    "build_model",
    "dependence",
    "generate",
    "prune",
    "recomputed",
    "reply",
    "stream",
    "translate",
]
