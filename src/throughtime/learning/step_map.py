"""One step as a map of states and parameters, and products with its Jacobians."""

import dataclasses
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import jacrev, jvp, vjp, vmap

from throughtime.core.binding import bind
from throughtime.core.cell import Cell, Streams
from throughtime.core.dynamics import Dynamics
from throughtime.core.errors import LearnerRefusalError
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.partials import Partials


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
