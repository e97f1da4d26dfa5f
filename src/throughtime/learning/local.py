"""RFLO: what the recurrent matrices pass on is left out, so that each unit learns by itself."""

from typing import Any, Literal, TypeAlias, final, get_args

import torch
from torch import Tensor

from throughtime.core.binding import bind
from throughtime.core.errors import LearnerRefusalError, UnknownNameError
from throughtime.core.gated import GatedCell
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.forward import go_forward
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update
from throughtime.learning.real_time import started
from throughtime.learning.step_map import Step, StepMap

Feedback: TypeAlias = Literal["random", "readout"]


@final
class RFLO(Learner):
    """Random-feedback local online learning (Murray 2019), a baseline.

        G_t = D_t G_{t-1} + F_theta        D: dF/ds with what the matrices read held constant
        dL_t/dh_t is taken to be B dL_t/dy_t, of the read-out's answers y, with a fixed random B

    What a state passes on through the recurrent matrices is left out; what a unit keeps by itself,
    its leak or its gated memory, is not. Of an LSTM it is backpropagation that is cut at h, as in
    1997, found forward; of cells without recurrent matrices it is exact, but for B.

    Arguments:
        feedback: "random" for B, drawn from U(-1/sqrt(units), 1/sqrt(units)); "readout" for the
            read-out's own weights.
        seed: of B.

    Raises:
        UnknownNameError: another feedback.

    Source: J. M. Murray, "Local online learning in recurrent networks with random feedback", eLife
    8, 2019.

    Differs from the paper in: the influence is stored densely; the range of B is our choice.
    """

    def __init__(self, feedback: Feedback = "random", seed: int = 0):
        if feedback not in get_args(Feedback):
            raise UnknownNameError("feedback", str(feedback), get_args(Feedback))
        self.feedback: Feedback = feedback
        self.seed = seed

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

        def visit(cell: StepMap, step: Step, memory: State):
            influence = started(cell, step, memory[0])
            past = torch.einsum("bs,bsp->p", step.credit, influence)
            return past, (cell.influence(step, influence, local=True),)

        taught = self._fed_back(model) if self.feedback == "random" else model
        return go_forward(taught, state, chunk, visit, local=True)

    def _fed_back(self, model: StepwiseModel) -> StepwiseModel:
        """The model whose answers are the same, and whose errors come back by B."""
        like = next(model.cell.parameters())
        units = model.cell.output_size
        readout: Any = bind(model.readout, {})

        def forward(outputs: Tensor) -> Tensor:
            answers = model.readout(outputs.detach())
            random = torch.Generator().manual_seed(self.seed)
            drawn = torch.rand(answers.shape[-1], units, generator=random)
            back = ((2 * drawn - 1) / units**0.5).to(like)
            return answers + (outputs - outputs.detach()) @ back.T

        vars(readout)["forward"] = forward
        taught = bind(model, {})
        taught.readout = readout
        return taught
