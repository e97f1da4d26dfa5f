"""Targets or discrete errors propagated back through units of two states (1993 and 1994)."""

import dataclasses
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from throughtime.cells import ThresholdCell
from throughtime.cells.flipflop import FlipFlopCell
from throughtime.core.errors import LearnerRefusalError
from throughtime.core.gated import GatedCell
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.learner import (
    Chunk,
    Learner,
    LearnerState,
    Update,
    generator_of,
    starts,
    trained,
)
from throughtime.learning.unrolled import side_by_side, unrolled


@final
class TargetPropagation(Learner):
    """Targets propagated back through flip-flops, in place of gradients (Bengio et al. 1993).

        Delta a_t = 0                if h_t has the sign that is wanted
        Delta a_t = share_t * s_t    else; s_t: the wanted sign
        Delta h_{t-1} = Delta h_t    where |a_t| < 1, else 0                   (equation 11)

    Where |a_t| < 1 a unit held its state; otherwise its input set it. Of n steps that held without
    a break and the one that set it before them any may be to blame: the share is 0.5 / n of those
    each, and 0.5 of that one; it is 1 / n if none did since the start, and 1 of a step that sets
    what is wanted at it. The cell's entries in `gradients` are those of

        E = -sum over t, mean over the batch, of Delta a_t a_t        a_t = W_ih x_t + W_hh h* + b

    with h* the states before as they are wanted to be. What another unit's share asks of a state
    goes by W_hh, divided by its row's sum of sizes. A step's loss asks for its negative slope by
    h_t, as a part of the largest unit's, times the step's weight.

    So those entries are in units of their own, for plain gradient descent; those of the read-out
    are the loss's gradient. The loss's slope must not turn while the answer is right: h itself
    against -1 and 1, or a logistic loss. A chunk is to be one sequence: nothing is asked of what
    was before it.

    Example:
        >>> def squared(answers, targets):
        ...     return (answers - targets).square().sum(-1)
        >>> cell = FlipFlopCell(1, 1, bias=False)
        >>> _ = cell.weight_ih.data.fill_(2.0), cell.weight_hh.data.fill_(0.0)
        >>> model, learner = StepwiseModel(cell, torch.nn.Identity(), squared), TargetPropagation()
        >>> inputs = torch.tensor([1.0, 0.1, 0.3]).reshape(3, 1, 1)  # sets the unit, which holds
        >>> chunk = Chunk(inputs, -torch.ones(3, 1, 1), None, torch.tensor([[0.0], [0.0], [1.0]]))
        >>> found = learner.update(model, learner.init(model, 1), chunk)
        >>> round(found.gradients["cell.weight_ih"].item(), 3)  # 0.5 * 1 + 0.25 * 0.1 + 0.25 * 0.3
        0.6

    Source: Y. Bengio, P. Frasconi and P. Simard, "The problem of learning long-term dependencies in
    recurrent networks", ICNN 1993.

    Differs from the paper in: its equations (9) and (10), for a, we know by what it says of them:
    positive constants, and the shares of its example. That the constants are one, the shares where
    no step set the unit, and all that is said of W_hh and of the loss are ours.
    """

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """None.

        Raises:
            LearnerRefusalError: the cell is no FlipFlopCell, or one of other lags.
        """
        cell = model.cell
        if not isinstance(cell, FlipFlopCell) or cell.lags != (1,):
            raise LearnerRefusalError(
                "TargetPropagation",
                got=f"{type(cell).__name__}, through which it has no rule for targets",
                expected="a FlipFlopCell of lag 1",
                fix="BPTT() learns any cell.",
            )
        return ()

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk, and back with what is wanted."""
        played = play(model, state, chunk)
        held = played.a.abs() < 1
        run, was_set = _runs(held, played.fresh)
        matrix = model.cell.get_parameter("weight_hh").detach()
        reads = matrix / matrix.abs().sum(1, keepdim=True).clamp(min=torch.finfo(matrix.dtype).tiny)
        changes, before = torch.zeros_like(played.a), played.before.clone()
        of_holding = of_setting = by_others = torch.zeros_like(matrix[0]).expand_as(held[0])
        for t in reversed(range(len(chunk))):
            asked = played.asked[t] + by_others
            half = torch.where(was_set[t], 0.5, 1.0).to(asked)
            share = torch.where(
                held[t], of_holding + half * asked / run[t].clamp(min=1), of_setting + asked
            )
            wrong = played.h[t] * share < 0
            changes[t] = torch.where(wrong, share, 0.0)
            linked = ~played.fresh[t, :, None]
            by_others = torch.where(linked, changes[t] @ reads, 0.0)
            of_setting = torch.where(linked & held[t], of_setting + (1 - half) * asked, 0.0)
            of_holding = torch.where(linked & held[t], share, 0.0)
            if t + 1 < len(chunk):
                reached = wrong & ~played.fresh[t + 1, :, None]
                before[t + 1] = torch.where(reached, -played.h[t], before[t + 1])
        return taught(model, chunk, played, before, changes)


def _runs(
    held: Bool[Tensor, "time batch hidden"], fresh: Bool[Tensor, "time batch"]
) -> tuple[Float[Tensor, "time batch hidden"], Bool[Tensor, "time batch hidden"]]:
    """How many steps up to each held without a break; whether one that set the unit came before.

    Arguments:
        held: whether a unit held its state at a step.
        fresh: where what was before does not count.
    """
    run, was_set = torch.zeros_like(held[0], dtype=torch.float32), torch.zeros_like(held[0])
    runs: list[Tensor] = []
    sets: list[Tensor] = []
    for now, first in zip(held, fresh[..., None], strict=True):
        run = torch.where(now, torch.where(first, 0.0, run) + 1, 0.0)
        was_set = now & was_set & ~first
        runs.append(run)
        sets.append(was_set)
        was_set = was_set | ~now
    return torch.stack(runs), torch.stack(sets)


@dataclasses.dataclass(frozen=True, eq=False)
class Played:
    """A chunk, run forward, of a cell whose units are -1 or 1 by a_t, and maybe h_{t-1}.

    Attributes:
        a: W_ih x_t + W_hh h_{t-1}, and biases.
        h: the states.
        before: h_{t-1}, 0 where a sequence starts.
        fresh: where what was before is not the sequence's, or not the chunk's.
        asked: of h_t by its own step's loss: its negative slope, as a part of the largest unit's,
            times the step's weight.
        loss: of the chunk, with a graph to the read-out alone.
        after: the learner's state, with its generator as it was before.
    """

    a: Float[Tensor, "time batch hidden"]
    h: Float[Tensor, "time batch hidden"]
    before: Float[Tensor, "time batch hidden"]
    fresh: Bool[Tensor, "time batch"]
    asked: Float[Tensor, "time batch hidden"]
    loss: Float[Tensor, ""]
    after: LearnerState


def play(model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Played:
    """Run a chunk forward.

    Arguments:
        model: of a gated cell of one gate and lag 1, that only adds, without streams.
        state: before the chunk.
        chunk: the steps.
    """
    resets = starts(state, chunk)
    with torch.no_grad():
        steps = unrolled(model, state.cell, chunk.inputs, resets, ())
        before = torch.stack([side_by_side(s) for s in steps.entering])
        a = _inputs(model, chunk, before)
    with torch.enable_grad():
        outputs = steps.outputs.detach().requires_grad_()
        losses = model.losses(outputs, chunk.targets, chunk.weights)
        # the loss alone: where a step has no weight nothing is asked, not even that h be small
        answers = model.readout(outputs.flatten(0, 1))
        own = model.loss(answers, chunk.targets.flatten(0, 1)).sum()
        (slope,) = torch.autograd.grad(own, outputs)
    if chunk.weights is not None:
        slope = torch.where(chunk.weights[..., None] != 0, slope, 0.0)
    largest = slope.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
    asked = -slope / largest
    if chunk.weights is not None:
        asked = asked * chunk.weights[..., None]
    fresh = resets.clone()
    fresh[0] = True
    started = torch.ones_like(state.started)
    after = LearnerState(steps.end, started, (), state.random)
    return Played(a, steps.outputs, before, fresh, asked, losses.sum() / losses.shape[1], after)


def taught(
    model: StepwiseModel,
    chunk: Chunk,
    played: Played,
    before: Float[Tensor, "time batch hidden"],
    changes: Float[Tensor, "time batch hidden"],
) -> Update:
    """The loss's gradients by the read-out, and by the cell those that move a as it is wanted.

    Arguments:
        model: whose parameters.
        chunk: the steps.
        played: the chunk, run.
        before: the states that W_hh is taken to read.
        changes: of a, wanted.
    """
    parameters = trained(model)
    with torch.enable_grad():
        missed = -(_inputs(model, chunk, before) * changes).sum() / changes.shape[1]
        found = torch.autograd.grad(
            played.loss + missed,
            list(parameters.values()),
            allow_unused=True,
            materialize_grads=True,
        )
    gradients = dict(zip(parameters, found, strict=True))
    return Update(played.loss.detach(), gradients, played.after)


def _inputs(model: StepwiseModel, chunk: Chunk, before: Tensor) -> Tensor:
    """a of all steps, of states before that are given."""
    cell = model.cell
    assert isinstance(cell, GatedCell)
    return cell.project(chunk.inputs) + F.linear(before, cell.recurrent_matrix(1))


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
