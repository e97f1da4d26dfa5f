"""Targets or discrete errors propagated back through units of two states (1993 and 1994)."""

import dataclasses
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from throughtime.cells import ThresholdCell
from throughtime.cells.two_state import FlipFlopCell
from throughtime.core.errors import LearnerRefusalError
from throughtime.core.gated import GatedCell
from throughtime.core.scoring import StepwiseModel
from throughtime.core.state import State
from throughtime.engines import Request, run
from throughtime.learning.learner import (
    Chunk,
    Learner,
    LearnerState,
    Update,
    generator_of,
    starts,
    states_before,
    trained,
)


@final
class TargetPropagation(Learner):
    """Targets propagated back through flip-flops, in place of gradients (Bengio et al. 1993).

        Delta a_t = 0                if h_t has the desired sign
        Delta a_t = share_t * s_t    else; s_t: the desired sign
        Delta h_{t-1} = Delta h_t    where |a_t| < 1, else 0                   (equation 11)

    Where |a_t| < 1 a unit held its state; otherwise its input set it. Of n steps that held without
    a break and the one that set it before them any may be to blame: the share is 0.5 / n of those
    each, and 0.5 of that one; it is 1 / n if none did since the start, and 1 of a step that sets
    the state that is desired at it. The cell's entries in `gradients` are those of

        E = -sum over t, mean over the batch, of Delta a_t a_t        a_t = W_ih x_t + W_hh h* + b

    with h* the desired states before. Another unit's share reaches a state through W_hh, divided by
    its row's sum of sizes. The change that a step's loss favours is its negative slope by h_t, as a
    part of the largest unit's, times the step's weight.

    So those entries are in units of their own, for plain gradient descent; those of the read-out
    are the loss's gradient. The loss's slope must not turn while the answer is right: h itself
    against -1 and 1, or a logistic loss. A chunk is to be one sequence: no
    target goes back beyond its start.

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

    Differs from the paper in: of its equations (9) and (10), for a, only the description is at
    hand: positive constants, and the shares of its example. Constants of one, the shares where no
    step set the unit, and the treatment of W_hh and of the loss are our choice.
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
        """Go forward through the chunk, and back with targets."""
        forward = run_forward(model, state, chunk)
        held = forward.a.abs() < 1
        run, was_set = _runs(held, forward.fresh)
        matrix = model.cell.get_parameter("weight_hh").detach()
        reads = matrix / matrix.abs().sum(1, keepdim=True).clamp(min=torch.finfo(matrix.dtype).tiny)
        changes, before = torch.zeros_like(forward.a), forward.before.clone()
        of_holding = of_setting = by_others = torch.zeros_like(matrix[0]).expand_as(held[0])
        for t in reversed(range(len(chunk))):
            desired = forward.desired[t] + by_others
            half = torch.where(was_set[t], 0.5, 1.0).to(desired)
            share = torch.where(
                held[t], of_holding + half * desired / run[t].clamp(min=1), of_setting + desired
            )
            wrong = forward.h[t] * share < 0
            changes[t] = torch.where(wrong, share, 0.0)
            linked = ~forward.fresh[t, :, None]
            by_others = torch.where(linked, changes[t] @ reads, 0.0)
            of_setting = torch.where(linked & held[t], of_setting + (1 - half) * desired, 0.0)
            of_holding = torch.where(linked & held[t], share, 0.0)
            if t + 1 < len(chunk):
                reached = wrong & ~forward.fresh[t + 1, :, None]
                before[t + 1] = torch.where(reached, -forward.h[t], before[t + 1])
        return update_of(model, chunk, forward, before, changes)


def _runs(
    held: Bool[Tensor, "time batch hidden"], fresh: Bool[Tensor, "time batch"]
) -> tuple[Float[Tensor, "time batch hidden"], Bool[Tensor, "time batch hidden"]]:
    """Steps up to each that held without a break, and True if one that set the unit came before.

    Arguments:
        held: True where a unit held its state at a step.
        fresh: True where the steps before do not count.
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
class ForwardPass:
    """The forward pass of a chunk, of a cell whose units are -1 or 1 by a_t, and maybe h_{t-1}.

    Attributes:
        a: W_ih x_t + W_hh h_{t-1}, and biases.
        h: the states.
        before: h_{t-1}, 0 where a sequence starts.
        fresh: True where the step before is not the sequence's, or not the chunk's.
        desired: change of h_t that its own step's loss favours: its negative slope, as a part of
            the largest unit's, times the step's weight.
        loss: loss of the chunk, with a graph to the read-out alone.
        after: the learner's state, with its generator as it was before.
    """

    a: Float[Tensor, "time batch hidden"]
    h: Float[Tensor, "time batch hidden"]
    before: Float[Tensor, "time batch hidden"]
    fresh: Bool[Tensor, "time batch"]
    desired: Float[Tensor, "time batch hidden"]
    loss: Float[Tensor, ""]
    after: LearnerState


def run_forward(model: StepwiseModel, state: LearnerState, chunk: Chunk) -> ForwardPass:
    """Run a chunk forward.

    Arguments:
        model: model of a gated cell of one gate and lag 1, that only adds, without streams.
    """
    resets = starts(state, chunk)
    with torch.no_grad():
        request = Request(model.cell, chunk.inputs, state.cell, None, resets, (), "states")
        steps = run(request, "eager")
        before = states_before(model.cell, state.cell, steps.states, resets).h
        before = before.unflatten(0, resets.shape)
        a = _inputs(model, chunk, before)
    with torch.enable_grad():
        outputs = steps.outputs.detach().requires_grad_()
        losses = model.losses(outputs, chunk.targets, chunk.weights)
        # the loss alone: a step without weight has no target, not even that h be small
        answers = model.readout(outputs.flatten(0, 1))
        own = model.loss(answers, chunk.targets.flatten(0, 1)).sum()
        (slope,) = torch.autograd.grad(own, outputs)
    if chunk.weights is not None:
        slope = torch.where(chunk.weights[..., None] != 0, slope, 0.0)
    largest = slope.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
    desired = -slope / largest
    if chunk.weights is not None:
        desired = desired * chunk.weights[..., None]
    fresh = resets.clone()
    fresh[0] = True
    started = torch.ones_like(state.started)
    after = LearnerState(steps.state, started, (), state.random)
    return ForwardPass(
        a, steps.outputs, before, fresh, desired, losses.sum() / losses.shape[1], after
    )


def update_of(
    model: StepwiseModel,
    chunk: Chunk,
    forward: ForwardPass,
    before: Float[Tensor, "time batch hidden"],
    changes: Float[Tensor, "time batch hidden"],
) -> Update:
    """Return the loss's gradients by the read-out, and those by the cell that move a as desired.

    Arguments:
        before: the states that W_hh reads.
        changes: desired changes of a.
    """
    parameters = trained(model)
    with torch.enable_grad():
        missed = -(_inputs(model, chunk, before) * changes).sum() / changes.shape[1]
        found = torch.autograd.grad(
            forward.loss + missed,
            list(parameters.values()),
            allow_unused=True,
            materialize_grads=True,
        )
    gradients = dict(zip(parameters, found, strict=True))
    return Update(forward.loss.detach(), gradients, forward.after)


def _inputs(model: StepwiseModel, chunk: Chunk, before: Tensor) -> Tensor:
    """a of all steps, of states before that are given."""
    cell = model.cell
    assert isinstance(cell, GatedCell)
    return cell.project(chunk.inputs) + F.linear(before, cell.recurrent_matrix(1))


@final
class DiscreteErrorPropagation(Learner):
    """Errors of -1, 0 and 1 propagated back through hard thresholds (after Bengio et al. 1994).

        d_{i,t}: the change of h_{i,t} that the step's loss favours, and the number of units j whose
                 error at t + 1 goes to it, of the sign that they need
        e_{i,t} = 0 if h_{i,t} has the sign of d_{i,t}; else that sign, with the probability
                  min(1, |d_{i,t}|), and 0 otherwise

    The error of a unit j goes to one place, by chance. Reversing h_{i,t-1} would move a_{j,t} by
    2 W_ji e_j. The error goes back to one unit i for which that has the sign of e_j: to i with a
    probability in proportion to |W_ji|, where all those together could turn a_{j,t} round; with
    less in proportion where they could not; and to none where sequence or chunk starts. If it goes
    to none, j's own weights are to move a_{j,t}: the cell's entries in `gradients` are those of

        E = -sum over t, mean over the batch, of e_{j,t} a_{j,t}    of errors that went to no unit

    The change that a step's loss favours is its negative slope by h_t, as a part of the largest
    unit's, times the step's weight. So those entries are in units of their own, for plain gradient
    descent; those of the read-out are the loss's gradient. The loss's slope must not turn while the
    answer is right: h itself against -1 and 1, or a logistic loss. A chunk is to be one sequence.

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

    Differs from the paper in: its rule is at hand only in outline: thresholds, errors of -1, 0
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
        """Go forward through the chunk, and back with errors."""
        forward, random = run_forward(model, state, chunk), generator_of(state)
        # in the order of time, so that no number depends on where a stream is cut
        chances = torch.stack(
            [torch.rand(3, *forward.a[0].shape, generator=random) for _ in range(len(chunk))]
        ).to(forward.a)
        matrix = model.cell.get_parameter("weight_hh").detach()
        changes = torch.zeros_like(forward.a)
        votes = torch.zeros_like(forward.a[0])
        for t in reversed(range(len(chunk))):
            desired = forward.desired[t] + votes
            wrong = (desired * forward.h[t] < 0) & (chances[t, 0] < desired.abs())
            errors = torch.where(wrong, desired.sign(), 0.0)
            before = torch.where(forward.fresh[t, :, None], 0.0, forward.before[t])
            helps = _helps(errors, matrix, before)
            passed = chances[t, 1] * forward.a[t].abs() < helps.sum(-1)
            changes[t] = torch.where(passed, 0.0, errors)
            votes = -before * (_chosen(helps, chances[t, 2]) & passed[..., None]).sum(1)
        update = update_of(model, chunk, forward, forward.before, changes)
        return update._replace(state=update.state._replace(random=random.get_state()))


def _helps(
    errors: Float[Tensor, "batch hidden"],
    matrix: Float[Tensor, "hidden hidden"],
    before: Float[Tensor, "batch hidden"],
) -> Float[Tensor, "batch hidden hidden"]:
    """Movement of a_j in the direction of its error if unit i is reversed; 0 if in the other one.

    Arguments:
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
