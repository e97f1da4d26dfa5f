"""RTRL, exact, and its local approximations SnAp and RFLO."""

from typing import Literal, TypeAlias, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import bind
from throughtime.core.errors import ConfigurationError, LearnerRefusalError, UnknownNameError
from throughtime.core.gated import GatedCell
from throughtime.core.jacobian import initial_influence
from throughtime.core.scoring import StepwiseModel
from throughtime.core.state import State
from throughtime.learning import influence as sparse
from throughtime.learning.forward import Step, forward_parameters, go_forward
from throughtime.learning.influence import (
    Pattern,
    pattern_of,
    reaches_all,
    reading,
    whole_pattern,
)
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update


@final
class RTRL(Learner):
    """Real-time recurrent learning (Williams and Zipser 1989), for any cell.

        G_t = F_s G_{t-1} + F_theta        G = ds/dtheta, the influence
        dL_t/dtheta = dL_t/ds_{t-1} G_{t-1} + the part of step t itself

    It equals backpropagation through the whole past, at every step, with memory that does not grow
    with time: batch * size * parameters; batch * K * parameters where no parameter ever reaches
    more than K states, as in cells without recurrent matrices.

    The states that a parameter reaches are found from Jacobians at random points. Each step checks
    that they are all: if a step finds another, all entries are kept from then on.

    Source: R. J. Williams and D. Zipser, "A learning algorithm for continually running fully
    recurrent neural networks", Neural Computation 1(2), 1989.
    """

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """Return G; where entries are always zero, the others, and their pattern."""
        reads = reading(model)
        initial = initial_influence(model.cell, forward_parameters(model))
        if not reaches_all(reads):
            pattern = pattern_of(model, reads, None)
            if len(pattern.rows) < len(reads):
                return (sparse.initial_entries(initial, batch_size, pattern), tuple(pattern))
        return (initial.repeat(batch_size, 1, 1),)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Go forward through the chunk."""

        def visit(step: Step, memory: State):
            influence = memory[0]
            if len(memory) > 1:
                pattern = Pattern(*memory[1])
                influence = sparse.entering(step, influence, pattern)
                by_s, by_theta, complete = sparse.jacobians(step.jacobian, pattern, check=True)
                if complete:
                    after = sparse.carried(influence, by_s, by_theta, pattern)
                    return sparse.past(step, influence, pattern), (after, memory[1])
                influence = sparse.dense(influence, pattern)
                memory = (memory[0], tuple(whole_pattern(step.jacobian)))
            influence = entering(step, influence)
            past = torch.einsum("bs,bsp->p", step.credit, influence)
            return past, (step.jacobian.influence(influence), *memory[1:])

        return go_forward(model, state, chunk, visit)


@final
class SnAp(Learner):
    """Sparse n-step approximation of RTRL (Menick et al. 2020).

        G_t = M * (F_s G_{t-1} + F_theta)

    M keeps the entries by which a parameter reaches a state within n steps; the others are taken
    for zero. It is exact where n steps reach all that can be reached. The pattern is that of the
    Jacobians at random parameters, states and inputs.

    Its memory is batch * K * parameters, K the number of states that a parameter reaches at most:
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
        """Return the entries of G that are kept, and their pattern."""
        pattern = pattern_of(model, reading(model), self.order)
        initial = initial_influence(model.cell, forward_parameters(model))
        return (sparse.initial_entries(initial, batch_size, pattern), tuple(pattern))

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Go forward through the chunk."""

        def visit(step: Step, memory: State):
            pattern = Pattern(*memory[1])
            influence = sparse.entering(step, memory[0], pattern)
            by_s, by_theta, _ = sparse.jacobians(step.jacobian, pattern)
            after = sparse.carried(influence, by_s, by_theta, pattern)
            return sparse.past(step, influence, pattern), (after, memory[1])

        return go_forward(model, state, chunk, visit)


def entering(
    step: Step, influence: Float[Tensor, "batch size count"]
) -> Float[Tensor, "batch size count"]:
    """Return the influence on the state that a step starts from.

    Arguments:
        influence: the influence on the state after the step before.
    """
    if not bool(step.fresh.any()):
        return influence
    return torch.where(step.fresh[:, None, None], step.initial(), influence)


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
        seed: seed of B.

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
        """Return G."""
        cell = model.cell
        if not isinstance(cell, GatedCell) or not cell.standard:
            raise LearnerRefusalError(
                "RFLO",
                got=f"{type(cell).__name__}, whose matrices and their inputs are not declared",
                expected="a gated cell",
                fix="SnAp(1) is as local, for any cell; RTRL() is exact.",
            )
        initial = initial_influence(cell, forward_parameters(model))
        return (initial.repeat(batch_size, 1, 1),)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Go forward through the chunk."""

        def visit(step: Step, memory: State):
            influence = entering(step, memory[0])
            past = torch.einsum("bs,bsp->p", step.credit, influence)
            return past, (step.jacobian.influence(influence, local=True),)

        if self.feedback == "readout":
            return go_forward(model, state, chunk, visit, local=True)
        fed_back = bind(model, {})
        fed_back.readout = _RandomFeedback(model, self.seed)
        found = go_forward(fed_back, state, chunk, visit, local=True)
        own, prefix = "readout.readout.", "readout."
        gradients = {name.replace(own, prefix, 1): g for name, g in found.gradients.items()}
        return found._replace(gradients=gradients)


@final
class _RandomFeedback(nn.Module):
    """A read-out whose answers are the same, and whose errors come back by B."""

    def __init__(self, model: StepwiseModel, seed: int):
        super().__init__()
        self.readout, self.seed, self.units = model.readout, seed, model.cell.output_size
        like = next(model.cell.parameters())
        self.where = {"dtype": like.dtype, "device": like.device}

    def forward(self, outputs: Tensor) -> Tensor:
        answers = self.readout(outputs.detach())
        random = torch.Generator().manual_seed(self.seed)
        drawn = torch.rand(answers.shape[-1], self.units, generator=random)
        back = ((2 * drawn - 1) / self.units**0.5).to(**self.where)
        return answers + (outputs - outputs.detach()) @ back.T
