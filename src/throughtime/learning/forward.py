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
from throughtime.learning.learner import (
    Chunk,
    LearnerState,
    Update,
    draw,
    generator_of,
    starts,
    trained,
)
from throughtime.learning.unrolled import restarted, side_by_side, with_tensors


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
    """

    def __init__(self, model: StepwiseModel):
        self.cell = model.cell
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
        every = (None, 0, 0, *(0 for _ in step.streams))
        by_theta, by_s = vmap(jacrev(self._function, argnums=(0, 1)), in_dims=every)(
            self.parameters, step.s, step.x, *step.streams
        )
        return by_s, _flat(by_theta, 2)

    def pushed(
        self, step: "Step", tangents: Float[Tensor, "batch size"]
    ) -> Float[Tensor, "batch size"]:
        """F_s v.

        Arguments:
            step: at which.
            tangents: v, of each sequence.
        """

        def along(s: Tensor, x: Tensor, v: Tensor, *streams: Tensor) -> Tensor:
            return jvp(lambda s: self._function(self.parameters, s, x, *streams), (s,), (v,))[1]

        return vmap(along)(step.s, step.x, tangents, *step.streams)

    def pulled(
        self, step: "Step", cotangents: Float[Tensor, "batch size"]
    ) -> Float[Tensor, "batch count"]:
        """v' F_theta.

        Arguments:
            step: at which.
            cotangents: v, of each sequence.
        """

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
    """

    s: Float[Tensor, "batch size"]
    x: Float[Tensor, "batch input"]
    streams: Streams
    fresh: Bool[Tensor, " batch"]
    credit: Float[Tensor, "batch size"]


Visit = Callable[[StepMap, Step, State, torch.Generator], tuple[Tensor, State]]
"""What the past's parameters have done to a step's loss, (count,), and the memory after it."""


def go_forward(
    model: StepwiseModel,
    state: LearnerState,
    chunk: Chunk,
    visit: Visit,
    *,
    local: bool = False,
) -> Update:
    """Step through a chunk: each loss's own gradient, and what the learner adds for the past.

        dL_t/dtheta = dL_t/ds_{t-1} ds_{t-1}/dtheta + what step t itself does

    Arguments:
        model: to be taught.
        state: before the chunk.
        chunk: the steps.
        visit: the learner's part; the memory that it is given is as it was after the step before.
        local: whether the credit is that of `holding` the state before the step.

    Raises:
        LearnerRefusalError: under autocast.
    """
    if torch.is_autocast_enabled(chunk.inputs.device.type):
        raise LearnerRefusalError(
            "learning forward in time",
            got="autocast",
            expected="full precision: an influence adds up over all steps, and so does its error",
            fix="Leave autocast off, or learn by BPTT().",
        )
    random, resets = generator_of(state), starts(state, chunk)
    parameters, cell_map = trained(model), StepMap(model)
    gradients = {name: torch.zeros_like(p) for name, p in parameters.items()}
    cell_state, memory = state.cell, state.memory
    batch = chunk.inputs.shape[1]
    losses: list[Tensor] = []
    for t in range(len(chunk)):
        streams = tuple(s[0] for s in draw(model, cell_state, resets[t : t + 1], random))
        with torch.enable_grad():
            before = cell_state
            if bool(resets[t].any()):
                like = cell_state.h
                fresh = model.cell.initial_state(batch, dtype=like.dtype, device=like.device)
                before = restarted(resets[t], fresh, cell_state)
            s = side_by_side(before).detach().requires_grad_()
            cell = holding(model.cell, with_tensors(before, s.detach())) if local else model.cell
            output, after = advance(
                cell, cell.project(chunk.inputs[t]), with_tensors(before, s), streams
            )
            weights = None if chunk.weights is None else chunk.weights[t]
            loss = model.losses(output, chunk.targets[t], weights).sum() / batch
            credit, *own = torch.autograd.grad(
                loss, [s, *parameters.values()], allow_unused=True, materialize_grads=True
            )
        losses.append(loss.detach())
        step = Step(s.detach(), chunk.inputs[t], streams, resets[t], credit)
        past, memory = visit(cell_map, step, memory, random)
        for name, gradient in zip(parameters, own, strict=True):
            gradients[name] += gradient
        for name, gradient in cell_map.named(past).items():
            gradients[name] += gradient
        cell_state = map_state(torch.Tensor.detach, after)
    started = torch.ones_like(state.started)
    after_all = LearnerState(cell_state, started, memory, random.get_state())
    return Update(torch.stack(losses).sum(), gradients, after_all)
