"""RFLO: what the recurrent matrices pass on is left out, so that each unit learns by itself."""

from typing import final

import torch

from throughtime.core.errors import LearnerRefusalError
from throughtime.core.gated import GatedCell
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.forward import Step, StepMap, go_forward
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update
from throughtime.learning.real_time import started


@final
class RFLO(Learner):
    """Random-feedback local online learning without its random feedback (Murray 2019), a baseline.

        G_t = D_t G_{t-1} + F_theta        D: dF/ds with what the matrices read held constant

    What a state passes on through the recurrent matrices is left out; what a unit keeps by itself,
    its leak or its gated memory, is not. Of an LSTM it is backpropagation that is cut at h, as in
    1997, found forward; of cells without recurrent matrices it is exact.

    Source: J. M. Murray, "Local online learning in recurrent networks with random feedback", 2019.

    Differs from the paper in: errors reach the units by the read-out's own weights; the influence
    is stored densely.
    """

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """G."""
        cell = model.cell
        if not isinstance(cell, GatedCell) or type(cell).step is not GatedCell.step:
            raise LearnerRefusalError(
                "RFLO",
                got=f"{type(cell).__name__}, of which it is not known what its matrices read",
                expected="a gated cell",
                fix="SnAp(1) is as local, for any cell; RTRL() is exact.",
            )
        return (StepMap(model).initial(batch_size).clone(),)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk."""

        def visit(cell: StepMap, step: Step, memory: State, random: torch.Generator):
            del random
            influence = started(cell, step, memory[0])
            past = torch.einsum("bs,bsp->p", step.credit, influence)
            by_theta = cell.jacobians(step)[1]
            return past, (torch.baddbmm(by_theta, cell.carried(step), influence),)

        return go_forward(model, state, chunk, visit, local=True)
