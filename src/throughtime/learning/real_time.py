"""Real-time recurrent learning, exactly, and with the influence cut to a sparse pattern."""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.forward import Step, StepMap, go_forward
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update


@final
class RTRL(Learner):
    """Real-time recurrent learning (Williams and Zipser 1989), for any cell.

        G_t = F_s G_{t-1} + F_theta        G = ds/dtheta, the influence
        dL_t/dtheta = dL_t/ds_{t-1} G_{t-1} + what step t itself does

    It equals backpropagation through the whole past, at every step, with memory that does not grow
    with time: batch * size * parameters.

    Source: R. J. Williams and D. Zipser, "A learning algorithm for continually running fully
    recurrent neural networks", Neural Computation 1(2), 1989.
    """

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """G."""
        return (StepMap(model).initial(batch_size).clone(),)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk."""

        def visit(cell: StepMap, step: Step, memory: State, random: torch.Generator):
            del random
            influence = started(cell, step, memory[0])
            past = torch.einsum("bs,bsp->p", step.credit, influence)
            by_s, by_theta = cell.jacobians(step)
            return past, (torch.baddbmm(by_theta, by_s, influence),)

        return go_forward(model, state, chunk, visit)


@final
class SnAp(Learner):
    """Sparse n-step approximation of RTRL (Menick et al. 2020).

        G_t = M * (F_s G_{t-1} + F_theta)

    M keeps the entries by which a parameter reaches a state within n steps; the others are taken
    for zero. It is exact where n steps reach all that can be reached. The pattern is that of the
    Jacobians at random states and inputs.

    Arguments:
        order: n, at least 1; at 1, each parameter acts on its own unit alone.

    Raises:
        ConfigurationError: n below 1.

    Source: J. Menick et al., "A practical sparse approximation for real time recurrent learning",
    ICLR 2021.

    Differs from the paper in: the influence is stored densely, so that this shows what the
    approximation learns and not what it saves.
    """

    def __init__(self, order: int = 1):
        if order < 1:
            raise ConfigurationError("order", got=order, expected="at least 1 step")
        self.order = order

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """G, and M."""
        cell = StepMap(model)
        return (cell.initial(batch_size).clone(), _pattern(cell, self.order))

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk."""

        def visit(cell: StepMap, step: Step, memory: State, random: torch.Generator):
            del random
            influence, pattern = started(cell, step, memory[0]), memory[1]
            past = torch.einsum("bs,bsp->p", step.credit, influence)
            by_s, by_theta = cell.jacobians(step)
            return past, (torch.baddbmm(by_theta, by_s, influence) * pattern, pattern)

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


def _pattern(cell: StepMap, order: int) -> Bool[Tensor, "size count"]:
    """Which parameters reach which states within so many steps."""
    generator = torch.Generator().manual_seed(0)
    rows = 8

    def drawn(width: int, like: Tensor) -> Tensor:
        return torch.randn(rows, width, dtype=like.dtype, generator=generator).to(like.device)

    like = next(iter(cell.parameters.values()))
    streams = tuple(torch.ones_like(drawn(cell.cell.hidden_size, like)) for _ in cell.cell.streams)
    s, x = drawn(cell.size, like), drawn(cell.cell.input_size, like)
    step = Step(s, x, streams, torch.zeros(rows, dtype=torch.bool), torch.zeros_like(s))
    by_s, by_theta = cell.jacobians(step)
    reads, first = (by_s != 0).any(0).float(), (by_theta != 0).any(0).float()
    reached = first
    for _ in range(order - 1):
        reached = ((reads @ reached + first) > 0).float()
    return reached > 0
