"""The regulariser that keeps the gradient's norm as it goes back (Pascanu et al. 2013)."""

from typing import Any, Literal, TypeAlias, final, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.jacobian import GatedJacobian
from throughtime.core.scoring import StepwiseModel
from throughtime.core.state import Layout, State, map_state, state_tensors
from throughtime.engines import Request, run, unroll
from throughtime.engines.trace.plan import elementwise
from throughtime.learning.backpropagation import BPTT, CutCell
from throughtime.learning.learner import (
    Chunk,
    Learner,
    LearnerState,
    Update,
    draw,
    generator_of,
    starts,
    states_before,
)

Form: TypeAlias = Literal["paper", "code"]


@final
class GradientPropagation(Learner):
    """Any learner, with a penalty on gradients that shrink or grow from step to step.

        v_k = dL/ds_k, of all losses from step k on        u_k = v_k ds_k/ds_{k-1}
        Omega = sum over k, mean over the batch, of (||u_k|| / ||v_k|| - 1)^2
        gradient = the learner's + strength * dOmega/dW

    W are the recurrent weights of the cell (all its parameters where none is called so). v and the
    states are taken for constants in dOmega/dW, as in the paper: one vector-Jacobian product of all
    steps at once, with a graph. The loss that is given is L alone.

    The form "code" is that of the authors' program: squared norms in the ratio, the sum divided by
    the number of steps and sequences that have a gradient, and no term where ||v||^2 < 1e-20.

    Arguments:
        strength: 2 in the authors' program.
        form: "paper" or "code".
        learner: the learner whose gradient it adds to; backpropagation if None. The penalty itself
            goes back through the chunk.

    Raises:
        ConfigurationError: a negative strength.
        UnknownNameError: another form.

    Source: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
    networks", ICML 2013, equations 9 and 10.

    Differs from the paper in: s is the whole state of whatever cell, h alone for its networks; a
    step that starts afresh has no term; a step's own loss counts by the output where that is a
    tensor of the state, else for the steps before it alone. Of the form "code", how sum and mean
    are nested is our reading.
    """

    def __init__(self, strength: float = 2.0, form: Form = "paper", learner: Learner | None = None):
        if not strength >= 0:
            raise ConfigurationError("strength", got=strength, expected="at least 0")
        if form not in get_args(Form):
            raise UnknownNameError("form", str(form), get_args(Form))
        self.strength, self.form = strength, form
        self.learner = BPTT() if learner is None else learner

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """The learner's."""
        return self.learner.memory(model, batch_size)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Return the learner's gradient of the chunk and the penalty's."""
        found = self.learner.update(model, state, chunk)
        for name, gradient in self.penalty(model, state, chunk)[1].items():
            found.gradients[name] += self.strength * gradient
        return found

    def penalty(
        self, model: StepwiseModel, state: LearnerState, chunk: Chunk
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return Omega of a chunk, a scalar, and dOmega/dW by the parameters' names.

        Arguments:
            model: its parameters are read.
            state: the learner's state before the chunk.
            chunk: the steps.
        """
        resets = starts(state, chunk)
        streams = draw(model, state.cell, resets, generator_of(state))
        before, v = adjoints(model, state.cell, chunk, resets, streams)
        with torch.enable_grad():
            weights = {n: p for n, p in model.named_parameters() if n.startswith("cell.")}
            recurrent = {n: p for n, p in weights.items() if ".weight_hh" in n} or weights
            recurrent = {n: p for n, p in recurrent.items() if p.requires_grad}
            # all steps at once, as so many sequences of one step
            layout = Layout(before)
            s = layout.flatten(before).requires_grad_()
            flat = tuple(t.flatten(0, 1) for t in streams)
            projected = model.cell.project(chunk.inputs.flatten(0, 1))
            state = layout.unflatten(s, layout.whole(before))
            after = layout.flatten(advance(model.cell, projected, state, flat)[1])
            (u,) = torch.autograd.grad(after, s, v, create_graph=True)
            omega = self._omega(u, v, ~resets.flatten()) / resets.shape[1]
            if not recurrent or not omega.requires_grad:  # frozen, or read by nothing
                return omega.detach(), {n: torch.zeros_like(p) for n, p in recurrent.items()}
            gradients = torch.autograd.grad(
                omega, list(recurrent.values()), allow_unused=True, materialize_grads=True
            )
        return omega.detach(), dict(zip(recurrent, gradients, strict=True))

    def _omega(self, u: Tensor, v: Tensor, linked: Tensor) -> Tensor:
        """The sum of all terms."""
        above, below = u.square().sum(1), v.square().sum(1)
        counted = linked & (below > (1e-20 if self.form == "code" else 0.0))
        ratio = above[counted] / below[counted]
        if self.form == "code":
            return (ratio - 1).square().sum() / max(int(counted.sum()), 1)
        return (ratio.clamp(min=torch.finfo(ratio.dtype).tiny).sqrt() - 1).square().sum()


def adjoints(
    model: StepwiseModel,
    start: State,
    chunk: Chunk,
    resets: Bool[Tensor, "time batch"],
    streams: Streams,
) -> tuple[State, Float[Tensor, "rows size"]]:
    """Return the states before each step, and v_k = dL/ds_k of the states after them.

    A step's own loss reaches s_k where its output is a tensor of the state, as h is.

    Of a gated cell with no lag beyond 1, whose `pointwise` can be traced, the step's Jacobian is
    elementwise but for W_hh: it is found for all steps at once, and the way back is one product a
    step. Any other cell is run step by step with its graph.

    Arguments:
        chunk: the steps; L is the sum of their losses.
        resets: True where a step starts from the cell's initial state; no gradient passes it.

    Returns:
        States of time * batch rows, and v with the state's floating tensors side by side, both
        without a graph. What a state holds twice, as a stack does its output, has its gradient at
        the last of its places: there the next step reads it.
    """
    cell: Any = model.cell
    if not elementwise(cell) or cell.lags not in ((), (1,)):
        steps = _Steps()
        with torch.enable_grad():
            # older outputs may still be those of the start, by which there is a gradient, too
            layout = Layout(start)
            flat = layout.flatten(start).detach().requires_grad_()
            begin = layout.unflatten(flat, layout.whole(start))
            request = Request(CutCell(cell), chunk.inputs, begin, None, resets, streams)
            outputs = unroll(request, steps).outputs
            loss = model.losses(outputs, chunk.targets, chunk.weights).sum()
        leaving = map_state(lambda *parts: torch.stack(parts).detach(), *steps.states)
        before = states_before(cell, start, leaving, resets)
        return before, _by_autograd(loss, steps.states)
    with torch.no_grad():
        request = Request(cell, chunk.inputs, start, None, resets, streams, "states")
        result = run(request, "auto")
        before = states_before(cell, start, result.states, resets)
    rows = tuple(stream.flatten(0, 1) for stream in streams)
    with torch.enable_grad():
        outputs = result.outputs.detach().requires_grad_()
        losses = model.losses(outputs, chunk.targets, chunk.weights)
        (own,) = torch.autograd.grad(losses.sum(), outputs)
    found = GatedJacobian(cell, before, chunk.inputs.flatten(0, 1), rows)
    return before, _back(found, own, ~resets).flatten(0, 1).flatten(1)


@final
class _Steps:
    """An observer that keeps the state after each step, with its graph."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def before_step(self, t: int, cell: Cell, projected: Tensor) -> Cell:
        del t, projected
        return cell

    def after_step(self, t: int, rows: Tensor | None, state: State) -> None:
        del t, rows
        self.states.append(state)


def _back(
    found: GatedJacobian,
    own: Float[Tensor, "time batch hidden"],
    linked: Bool[Tensor, "time batch"],
) -> Float[Tensor, "time batch fields hidden"]:
    """v_{k-1} = v_k ds_k/ds_{k-1} + dl_{k-1}/ds_{k-1}."""
    cell = found.cell
    matrix = cell.recurrent_matrix(1).detach() if cell.lags else None
    by_gates, by_state = (t.unflatten(0, linked.shape) for t in (found.by_past, found.by_state))
    if not linked[1:].all():
        by_gates, by_state = (
            torch.where(linked[..., None, None, None], partial, 0)
            for partial in (by_gates, by_state)
        )
    # a partial derivative that is zero everywhere, as most of them are, costs nothing
    fields = range(by_state.shape[2])
    gates = {i: by_gates[:, :, i].unbind() for i in fields if by_gates[:, :, i].any()}
    direct = {(i, j): by_state[:, :, i, j].unbind() for i, j in found.direct}
    v = torch.zeros_like(by_state[:, :, 0])
    v[:, :, 0] = own
    rows = [v[:, :, i].unbind() for i in fields]
    wide = [v[:, :, i, None].unbind() for i in fields]
    back = torch.empty_like(by_gates[0, :, 0])
    flat = back.flatten(1)
    for k in range(len(own) - 1, 0, -1):
        for (i, j), partial in direct.items():
            rows[j][k - 1].addcmul_(rows[i][k], partial[k])
        if matrix is not None:
            back.zero_()
            for i, partial in gates.items():
                back.addcmul_(wide[i][k], partial[k])
            rows[0][k - 1].addmm_(flat, matrix)
    return v


def _by_autograd(loss: Tensor, states: list[State]) -> Float[Tensor, "rows size"]:
    """dL/ds of each state, a row each."""
    every = [[s for s in state_tensors(state) if s.is_floating_point()] for state in states]
    layout = Layout(states[0])
    distinct = list({id(s): s for tensors in every for s in tensors}.values())
    found = torch.autograd.grad(loss, distinct, allow_unused=True, materialize_grads=True)
    left = dict(zip(map(id, distinct), found, strict=True))
    rows: list[Tensor] = []
    for row in every:
        parts = [left.pop(id(s), torch.zeros_like(s)) for s in reversed(row)]
        rows.append(layout.flatten(tuple(parts[::-1])))
    return torch.cat(rows)
