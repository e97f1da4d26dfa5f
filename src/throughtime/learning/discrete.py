"""Discrete error propagation (after Bengio et al. 1994): errors -1, 0, 1 through thresholds."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.errors import LearnerRefusalError
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update, generator_of
from throughtime.learning.target_propagation import play, taught


@final
class ThresholdCell(GatedCell):
    """Hard-threshold units, which no gradient goes through.

        h_t = 1 if x + u >= 0, else -1

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        bias: whether there are b_ih and b_hh.
        device, dtype: of the parameters.

    Raises:
        ConfigurationError: a size below 1.

    Example:
        >>> cell = ThresholdCell(1, 1, bias=False)
        >>> _ = cell.weight_ih.data.fill_(1.0), cell.weight_hh.data.fill_(0.5)
        >>> state = cell.initial_state(1, dtype=torch.float32, device=torch.device("cpu"))
        >>> found = []
        >>> for x in (-1.0, 0.4, -0.4, 0.6):
        ...     h, state = cell.step(cell.project(torch.tensor([[x]])), state)
        ...     found.append(h.item())
        >>> found
        [-1.0, -1.0, -1.0, 1.0]
    """

    gates = ("sign",)

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """h_t, -1 or 1; its gradient is zero."""
        a = x[0] + u[0]
        return torch.where(a >= 0, 1.0, -1.0).to(a.dtype) + 0 * a


@final
class DiscreteErrorPropagation(Learner):
    """Errors of -1, 0 and 1 propagated back through hard thresholds (after Bengio et al. 1994).

        d_{i,t}: what the step's loss asks of h_{i,t}, and the number of units j that ask at t + 1
                 for the other sign of it
        e_{i,t} = 0 if h_{i,t} has the sign of d_{i,t}; else that sign, with the probability
                  min(1, |d_{i,t}|), and 0 otherwise

    A unit j with an error finds one place for it, by chance. Reversing h_{i,t-1} would move a_{j,t}
    by 2 W_ji e_j: it asks one unit i for which that has the sign of e_j, i with a probability in
    proportion to |W_ji|, where all those together could turn a_{j,t} round, with less in proportion
    where they could not, and where sequence or chunk starts, none. If it asks no one, its own
    weights are to move a_{j,t}: the cell's entries in `gradients` are those of

        E = -sum over t, mean over the batch, of e_{j,t} a_{j,t}    of those that asked no one

    A step's loss asks for its negative slope by h_t, as a part of the largest unit's, times the
    step's weight. So those entries are in units of their own, for plain gradient descent; those of
    the read-out are the loss's gradient. The loss's slope must not turn while the answer is right:
    h itself against -1 and 1, or a logistic loss. A chunk is to be one sequence.

    Example:
        >>> def squared(answers, targets):
        ...     return (answers - targets).square().sum(-1)
        >>> model = StepwiseModel(ThresholdCell(2, 5), torch.nn.Linear(5, 1), squared)
        >>> learner = DiscreteErrorPropagation()
        >>> state = learner.init(model, batch_size=3)
        >>> chunk = Chunk(torch.ones(7, 3, 2), torch.ones(7, 3, 1))
        >>> loss, gradients, state = learner.update(model, state, chunk)
        >>> gradients["cell.weight_hh"].shape
        torch.Size([5, 5])

    Source: Y. Bengio, P. Simard and P. Frasconi, "Learning long-term dependencies with gradient
    descent is difficult", IEEE Transactions on Neural Networks 5(2), 1994.

    Differs from the paper in: its rule is not known to us beyond this: thresholds, errors of -1, 0
    and 1, and a choice by chance after the sign and size of what comes in. The rest is ours.
    """

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """None.

        Raises:
            LearnerRefusalError: the cell is no ThresholdCell, or one of other lags.
        """
        cell = model.cell
        if not isinstance(cell, ThresholdCell) or cell.lags != (1,):
            raise LearnerRefusalError(
                "DiscreteErrorPropagation",
                got=f"{type(cell).__name__}, whose units are no thresholds",
                expected="a ThresholdCell of lag 1",
                fix="TargetPropagation() learns a FlipFlopCell, BPTT() any cell with gradients.",
            )
        return ()

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk, and back with errors."""
        played, random = play(model, state, chunk), generator_of(state)
        # in the order of time, so that no number depends on where a stream is cut
        chances = torch.stack(
            [torch.rand(3, *played.a[0].shape, generator=random) for _ in range(len(chunk))]
        ).to(played.a)
        matrix = model.cell.get_parameter("weight_hh").detach()
        changes = torch.zeros_like(played.a)
        votes = torch.zeros_like(played.a[0])
        for t in reversed(range(len(chunk))):
            asked = played.asked[t] + votes
            wrong = (asked * played.h[t] < 0) & (chances[t, 0] < asked.abs())
            errors = torch.where(wrong, asked.sign(), 0.0)
            before = torch.where(played.fresh[t, :, None], 0.0, played.before[t])
            helps = _helps(errors, matrix, before)
            passed = chances[t, 1] * played.a[t].abs() < helps.sum(-1)
            changes[t] = torch.where(passed, 0.0, errors)
            votes = -before * (_chosen(helps, chances[t, 2]) & passed[..., None]).sum(1)
        update = taught(model, chunk, played, played.before, changes)
        return update._replace(state=update.state._replace(random=random.get_state()))


def _helps(
    errors: Float[Tensor, "batch hidden"],
    matrix: Float[Tensor, "hidden hidden"],
    before: Float[Tensor, "batch hidden"],
) -> Float[Tensor, "batch hidden hidden"]:
    """How far unit i, reversed, would move a_j the way that its error says; 0 if the other way.

    Arguments:
        errors: of units j.
        matrix: W_hh.
        before: h_{t-1}, 0 where it cannot be changed.
    """
    return (-2 * errors[..., None] * matrix * before[:, None]).clamp(min=0)


def _chosen(helps: Tensor, chance: Tensor) -> Tensor:
    """One unit i of each (sequence, j), by its part of all help: True there."""
    reach = helps.cumsum(-1)
    at = (chance[..., None] * reach[..., -1:] >= reach).sum(-1, keepdim=True)
    return torch.zeros_like(helps, dtype=torch.bool).scatter(
        -1, at.clamp(max=helps.shape[-1] - 1), True
    )
