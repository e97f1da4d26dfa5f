"""Going forward through a chunk: what every learner that never goes back does at a step."""

import dataclasses
from collections.abc import Callable
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import jacrev, jvp, vjp, vmap

from throughtime.core.binding import bind
from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.dynamics import Dynamics
from throughtime.core.errors import LearnerRefusalError
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State, map_state
from throughtime.engines import Request, run
from throughtime.learning.learner import (
    Chunk,
    LearnerState,
    Update,
    draws,
    generator_of,
    refuse_autocast,
    starts,
    together,
    trained,
)
from throughtime.learning.partials import Partials, partials, separable
from throughtime.learning.unrolled import entering, side_by_side, with_tensors

_VALUES, _ROWS = 2**22, 2**13  # at hand at once, for as many steps as that allows


@final
class StepMap:
    """s_t = F(theta, s_{t-1}, x_t): a cell's step, of its trained parameters and plain states.

    s has the state's fields side by side, theta the parameters, flattened.

    Arguments:
        model: its cell, on detached tensors.

    Attributes:
        parameters: of the cell that are trained, by name within the cell, detached.
        size: width of s.
        count: width of theta.

    Raises:
        LearnerRefusalError: no parameter of the cell is trained, or one has two names.
    """

    def __init__(self, model: StepwiseModel):
        self.cell = model.cell
        every = [p for _, p in model.cell.named_parameters(remove_duplicate=False)]
        shared = len({id(p) for p in every}) < len(every)
        if shared or not any(p.requires_grad for p in every):
            raise LearnerRefusalError(
                "learning forward in time",
                got="a parameter that the cell has twice" if shared else "a cell that is frozen",
                expected="parameters of the cell that are trained, each in one place",
                fix="BPTT() learns it.",
            )
        self.parameters = {
            name: p.detach() for name, p in model.cell.named_parameters() if p.requires_grad
        }
        self.size = Dynamics(model.cell).size
        self.count = sum(p.numel() for p in self.parameters.values())

    def carried(self, step: "Step") -> Float[Tensor, "batch size size"]:
        """dF/ds of a gated cell where what its matrices read is held: unit by unit.

        Arguments:
            step: at which.
        """

        def function(s: Tensor, x: Tensor, *streams: Tensor) -> Tensor:
            held = Dynamics(self.cell).unflatten(s.detach()[None])
            dynamics = Dynamics(holding(bind(self.cell, self.parameters), held))
            return dynamics(s[None], x[None], tuple(stream[None] for stream in streams))[0]

        return vmap(jacrev(function))(step.s, step.x, *step.streams)

    def _function(self, parameters: dict[str, Tensor], s: Tensor, x: Tensor, *streams: Tensor):
        dynamics = Dynamics(bind(self.cell, parameters))
        return dynamics(s[None], x[None], tuple(stream[None] for stream in streams))[0]

    def jacobians(
        self, step: "Step"
    ) -> tuple[Float[Tensor, "batch size size"], Float[Tensor, "batch size count"]]:
        """F_s and F_theta of each sequence.

        Arguments:
            step: at which.
        """
        if step.partials is not None:
            by_theta = step.s.new_zeros(len(step.s), self.size, self.count)
            step.partials.add_by_theta(by_theta)
            return step.partials.by_s(), by_theta
        every = (None, 0, 0, *(0 for _ in step.streams))
        by_theta, by_s = vmap(jacrev(self._function, argnums=(0, 1)), in_dims=every)(
            self.parameters, step.s, step.x, *step.streams
        )
        return by_s, _flat(by_theta, 2)

    def influence(
        self, step: "Step", before: Float[Tensor, "batch size count"], *, local: bool = False
    ) -> Float[Tensor, "batch size count"]:
        """F_s G + F_theta.

        Arguments:
            step: at which.
            before: G.
            local: whether F_s is that of `carried`.
        """
        if step.partials is not None:
            after = step.partials.carried(before, through_matrices=not local)
            step.partials.add_by_theta(after)
            return after
        by_s, by_theta = self.jacobians(step)
        return torch.baddbmm(by_theta, self.carried(step) if local else by_s, before)

    def pushed(
        self, step: "Step", tangents: Float[Tensor, "batch size"]
    ) -> Float[Tensor, "batch size"]:
        """F_s v.

        Arguments:
            step: at which.
            tangents: v, of each sequence.
        """

        if step.partials is not None:
            return step.partials.pushed(tangents)
        dynamics = Dynamics(bind(self.cell, self.parameters))
        return jvp(lambda s: dynamics(s, step.x, step.streams), (step.s,), (tangents,))[1]

    def pulled(
        self, step: "Step", cotangents: Float[Tensor, "batch size"]
    ) -> Float[Tensor, "batch count"]:
        """v' F_theta.

        Arguments:
            step: at which.
            cotangents: v, of each sequence.
        """

        if step.partials is not None:
            return step.partials.pulled(cotangents)

        def back(s: Tensor, x: Tensor, v: Tensor, *streams: Tensor) -> dict[str, Tensor]:
            given = self.parameters
            return vjp(lambda theta: self._function(theta, s, x, *streams), given)[1](v)[0]

        return _flat(vmap(back)(step.s, step.x, cotangents, *step.streams), 1)

    def initial(self, batch: int) -> Float[Tensor, "batch size count"]:
        """ds_0/dtheta: zero but for a state that is learnt."""

        def start(parameters: dict[str, Tensor]) -> Tensor:
            dynamics = Dynamics(bind(self.cell, parameters))
            state = dynamics.cell.initial_state(1, dtype=dynamics.dtype, device=dynamics.device)
            return dynamics.flatten(state)[0]

        return _flat(jacrev(start)(self.parameters), 1).expand(batch, -1, -1)

    def named(self, flat: Float[Tensor, " count"]) -> dict[str, Tensor]:
        """A gradient by theta, by the parameters' names within the model.

        Arguments:
            flat: in the order of `parameters`.
        """
        parts = flat.split([p.numel() for p in self.parameters.values()])
        return {
            f"cell.{name}": part.view_as(p)
            for (name, p), part in zip(self.parameters.items(), parts, strict=True)
        }


def _flat(by_name: dict[str, Tensor], leading: int) -> Tensor:
    return torch.cat([part.flatten(leading) for part in by_name.values()], -1)


def holding(cell: Cell, state: State) -> Cell:
    """A gated cell whose matrices read this state, whatever the step starts from.

    Arguments:
        cell: of any parameters.
        state: without a graph.
    """
    bound = bind(cell, {})
    kind: Any = type(cell)
    vars(bound)["_gates"] = lambda projected, own: kind._gates(bound, projected, state)
    return bound


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One step of a batch, as a forward learner sees it.

    Attributes:
        s: (batch, size) the state before it.
        x: (batch, input).
        streams: of the step.
        fresh: (batch,) whether it starts from the cell's initial state.
        credit: dL_t/ds: by the state before the step, through the step's own loss alone.
        drawn: the learner's random numbers.
        partials: of the cell, if it has them.
    """

    s: Float[Tensor, "batch size"]
    x: Float[Tensor, "batch input"]
    streams: Streams
    fresh: Bool[Tensor, " batch"]
    credit: Float[Tensor, "batch size"]
    drawn: tuple[Tensor, ...] = ()
    partials: Partials | None = None


Visit = Callable[[StepMap, Step, State], tuple[Tensor, State]]
"""What the past's parameters have done to a step's loss, (count,), and the memory after it."""

Drawing = Callable[[Bool[Tensor, " batch"], torch.Generator], tuple[Tensor, ...]]
"""A learner's random numbers for one step, which may start afresh."""


def go_forward(
    model: StepwiseModel,
    state: LearnerState,
    chunk: Chunk,
    visit: Visit,
    drawing: Drawing | None = None,
    *,
    local: bool = False,
) -> Update:
    """Step through a chunk: each loss's own gradient, and what the learner adds for the past.

        dL_t/dtheta = dL_t/ds_{t-1} ds_{t-1}/dtheta + what step t itself does

    The parameters stay what they are, so all that does not need the learner's memory, states,
    losses and partial derivatives, is found for many steps at once.

    Arguments:
        model: to be taught.
        state: before the chunk.
        chunk: the steps.
        visit: the learner's part; the memory that it is given is as it was after the step before.
        drawing: its random numbers; None for none.
        local: whether the credit is that of `holding` the state before the step.

    Raises:
        LearnerRefusalError: under autocast.
    """
    refuse_autocast(
        "learning forward in time",
        chunk,
        "an influence adds up over all steps, and so does its error",
    )
    random, cell_map = generator_of(state), StepMap(model)
    split = separable(model.cell)
    rows = min(_ROWS, _VALUES // _width(model, split))
    at_once = max(1, rows // chunk.inputs.shape[1])
    gradients = {name: torch.zeros_like(p) for name, p in trained(model).items()}
    past = chunk.inputs.new_zeros(cell_map.count)
    losses: list[Tensor] = []
    for start in range(0, len(chunk), at_once):
        part = chunk.part(start, start + at_once)
        loss, own, steps, cell = _steps(model, state, part, drawing, random, split, local)
        losses.append(loss)
        for name, gradient in own.items():
            gradients[name] += gradient
        memory = state.memory
        while steps:  # none is kept beyond its own turn
            taught, memory = visit(cell_map, steps.pop(0), memory)
            past = past + taught
        state = LearnerState(cell, torch.ones_like(state.started), memory, random.get_state())
    for name, gradient in cell_map.named(past).items():
        gradients[name] += gradient
    return Update(torch.stack(losses).sum(), gradients, state)


def _width(model: StepwiseModel, split: bool) -> int:
    """About how many numbers of a step are at hand for all steps at once."""
    cell: Any = model.cell
    size = Dynamics(cell).size
    if not split:
        return size
    gates, results = len(cell.gate_names), 1 + len(cell.memories)
    return results * (2 * gates * cell.hidden_size + size)


def _steps(
    model: StepwiseModel,
    state: LearnerState,
    chunk: Chunk,
    drawing: Drawing | None,
    random: torch.Generator,
    split: bool,
    local: bool,
) -> tuple[Tensor, dict[str, Tensor], list[Step], State]:
    """A chunk's loss, its steps' own gradients, the steps, and the cell's state after them."""
    time, batch = chunk.inputs.shape[:2]
    resets, cell = starts(state, chunk), model.cell
    each: list[Streams] = []
    drawn: list[tuple[Tensor, ...]] = []
    for fresh, streams in zip(resets, draws(model, state.cell, resets, random), strict=True):
        each.append(streams)
        drawn.append(() if drawing is None else drawing(fresh, random))
    streams = together(each, resets.device)
    leaving: State | None = None
    if time > 1:
        early = tuple(stream[:-1] for stream in streams)
        with torch.no_grad():
            request = Request(
                cell, chunk.inputs[:-1], state.cell, None, resets[:-1], early, "states"
            )
            leaving = run(request, "auto").states
    before = entering(cell, state.cell, leaving, resets)
    x, rows = chunk.inputs.flatten(0, 1), tuple(stream.flatten(0, 1) for stream in streams)
    parameters = trained(model)
    with torch.enable_grad():
        s = side_by_side(before).detach().requires_grad_()
        stepped = holding(cell, before) if local else cell
        output, after = advance(stepped, cell.project(x), with_tensors(before, s), rows)
        losses = model.losses(output.unflatten(0, (time, batch)), chunk.targets, chunk.weights)
        loss = losses.sum() / batch
        credit, *own = torch.autograd.grad(
            loss, [s, *parameters.values()], allow_unused=True, materialize_grads=True
        )
    found = partials(cell, before, x, rows).unflattened(time) if split else [None] * time
    s, credit = (rows.unflatten(0, (time, batch)) for rows in (s.detach(), credit))
    steps = [
        Step(
            s[t],
            chunk.inputs[t],
            tuple(stream[t] for stream in streams),
            resets[t],
            credit[t],
            drawn[t],
            found[t],
        )
        for t in range(time)
    ]
    end = map_state(lambda s: s[-batch:].detach().clone(), after)  # not all steps' memory
    return loss.detach(), dict(zip(parameters, own, strict=True)), steps, end
