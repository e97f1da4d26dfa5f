"""The network of the 1994 paper's analysis: one tanh unit that is to hold a bit against noise."""

import torch

from throughtime.cells import LatchUnitCell
from throughtime.layers import Recurrent
from throughtime.models.registry import MODELS
from throughtime.models.sequence_model import SequenceModel
from throughtime.tasks.kinds import Classes, Values


@MODELS.register("latch-unit")
def _latch_unit(
    input_size: int, answers: Classes | Values, *, weight: float = 1.25
) -> SequenceModel:
    """One tanh unit with a recurrent weight, its own answer (Bengio et al. 1994)."""
    layer = Recurrent(LatchUnitCell, input_size, 1, weight=weight)
    model = SequenceModel(layer, answers)
    with torch.no_grad():
        model.readout.weight.fill_(1.0)
        model.readout.bias.zero_()
    model.readout.requires_grad_(False)
    return model
