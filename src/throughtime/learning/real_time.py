"""RTRL, exact, and its local approximations SnAp and RFLO."""

from typing import Any, Literal, TypeAlias, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.binding import bind
from throughtime.core.errors import ConfigurationError, LearnerRefusalError, UnknownNameError
from throughtime.core.gated import GatedCell
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning import influence as sparse
from throughtime.learning.forward import go_forward
from throughtime.learning.influence import Pattern, all_of, pattern_of, reaches_all, reading
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update
from throughtime.learning.step_map import Step, StepMap


@final
class RTRL(Learner):
    """Real-time recurrent learning (Williams and Zipser 1989), for any cell.

        G_t = F_s G_{t-1} + F_theta        G = ds/dtheta, the influence
        dL_t/dtheta = dL_t/ds_{t-1} G_{t-1} + what step t itself does

    It equals backpropagation through the whole past, at every step, with memory that does not grow
    with time: batch * size * parameters; batch * K * parameters where no parameter ever reaches
    more than K states, as in cells without recurrent matrices.

    The states that a parameter reaches are found from Jacobians at random points. Each step checks
    that they are all: if a step finds another, all entries are kept from then on.

    Source: R. J. Williams and D. Zipser, "A learning algorithm for continually running fully
    recurrent neural networks", Neural Computation 1(2), 1989.
    """

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """G; where entries are left out because they are always zero, G's others and which."""
        cell = StepMap(model)
        reads = reading(cell)
        if not reaches_all(reads):
            pattern = pattern_of(cell, reads, None)
            if len(pattern.rows) < cell.size:
                return (sparse.initial(cell, batch_size, pattern), tuple(pattern))
        return (cell.initial(batch_size).clone(),)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk."""

        def visit(cell: StepMap, step: Step, memory: State):
            influence = memory[0]
            if len(memory) > 1:
                pattern = Pattern(*memory[1])
                influence = sparse.entering(cell, step, influence, pattern)
                by_s, by_theta, whole = sparse.jacobians(cell, step, pattern, check=True)
                if whole:
                    after = sparse.carried(influence, by_s, by_theta, pattern)
                    return sparse.past(step, influence, pattern), (after, memory[1])
                influence = sparse.dense(influence, pattern)
                memory = (memory[0], tuple(all_of(cell)))
            influence = started(cell, step, influence)
            past = torch.einsum("bs,bsp->p", step.credit, influence)
            return past, (cell.influence(step, influence), *memory[1:])

        return go_forward(model, state, chunk, visit)


@final
class SnAp(Learner):
    """Sparse n-step approximation of RTRL (Menick et al. 2020).

        G_t = M * (F_s G_{t-1} + F_theta)

    M keeps the entries by which a parameter reaches a state within n steps; the others are taken
    for zero. It is exact where n steps reach all that can be reached. The pattern is that of the
    Jacobians at random parameters, states and inputs.

    It remembers batch * K * parameters, K the number of states that a parameter reaches at most:
    at n = 1, one of an Elman network's, two of an LSTM's.

    Arguments:
        order: n, at least 1; at 1, each parameter acts on its own unit alone.

    Raises:
        ConfigurationError: n below 1.

    Source: J. Menick et al., "A practical sparse approximation for real time recurrent learning",
    ICLR 2021.
    """

    def __init__(self, order: int = 1):
        if order < 1:
            raise ConfigurationError("order", got=order, expected="at least 1 step")
        self.order = order

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """The entries of G that are kept, and which they are."""
        cell = StepMap(model)
        pattern = pattern_of(cell, reading(cell), self.order)
        return (sparse.initial(cell, batch_size, pattern), tuple(pattern))

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk."""

        def visit(cell: StepMap, step: Step, memory: State):
            pattern = Pattern(*memory[1])
            influence = sparse.entering(cell, step, memory[0], pattern)
            by_s, by_theta, _ = sparse.jacobians(cell, step, pattern)
            after = sparse.carried(influence, by_s, by_theta, pattern)
            return sparse.past(step, influence, pattern), (after, memory[1])

        return go_forward(model, state, chunk, visit)


def started(
    cell: StepMap, step: Step, influence: Float[Tensor, "batch size count"]
) -> Float[Tensor, "batch size count"]:
    """The influence on the state that a step starts from.

    Arguments:
        cell: of the model.
        step: which.
        influence: (batch, size, count) after the step before.
    """
    if not bool(step.fresh.any()):
        return influence
    return torch.where(step.fresh[:, None, None], cell.initial(len(step.fresh)), influence)


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
        if not isinstance(cell, GatedCell) or not cell.standard:
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
