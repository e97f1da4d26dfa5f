"""Time-weighted pseudo-Newton (Bengio et al. 1994): each step's own weights, by their curvature."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, jvp, vmap

from throughtime.core.binding import bind
from throughtime.core.cell import advance
from throughtime.core.errors import ConfigurationError
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State, map_state
from throughtime.learning.learner import (
    Chunk,
    Learner,
    LearnerState,
    Update,
    draw,
    generator_of,
    starts,
    trained,
)
from throughtime.learning.unrolled import restarted, side_by_side, with_tensors

_Cost: TypeAlias = Callable[[Tensor, Tensor], Tensor]
_Index: TypeAlias = Callable[[Tensor], Tensor]


@final
class PseudoNewton(Learner):
    """Time-weighted pseudo-Newton (Bengio, Simard and Frasconi 1994), with the exact curvature.

        Delta w_i = -eta g_i        g_i = sum over t of dC/dw_{i,t} / (|d2C/dw_{i,t}^2| + mu)

    w_{i,t} is weight i as step t alone uses it, as if each step had weights of its own: step t's
    cell, its read-out, and its initial state where a sequence starts there. C is the loss of the
    chunk, the mean over the batch. Where the distant past has little effect, its curvature is
    small too, so that it is not drowned by the steps near the end.

    The gradients that it gives are g, which is no gradient of anything: for plain gradient descent
    of rate eta, whose step is then the paper's. An optimiser that rescales, as Adam does, undoes
    part of it.

    The curvature is the exact diagonal, of one pass back through the chunk (neither Gauss and
    Newton's nor that of Becker and LeCun, who drop terms). With V the cost of all steps after t, a
    function of s_t whose slope v and Hessian H are known,

        q(theta, s) = l_t(theta, s) + v'D + D'HD / 2        D = F(theta, s) - s_t

    has the slopes and second derivatives by w_{i,t} and s_{t-1} that C has; F is the cell's step. A
    step takes a forward pass over its gradient for each weight and for each number of its state:
    steps * (weights + size) passes through one step, and memory for `at_once` * (weights + batch *
    size) numbers. That is for small networks, whose read-out and loss draw no random numbers.

    A chunk is to be one sequence: neither slope nor curvature goes back beyond its start.

    Arguments:
        mu: above 0, what keeps the step bounded where the cost is flat.
        at_once: how many forward passes are taken together, at least 1.

    Raises:
        ConfigurationError: numbers out of range.

    Example:
        >>> from throughtime.cells import ElmanCell
        >>> def squared(answers, targets):
        ...     return (answers - targets).square().sum(-1)
        >>> model = StepwiseModel(ElmanCell(2, 3), torch.nn.Linear(3, 1), squared)
        >>> learner = PseudoNewton(mu=0.1)
        >>> state = learner.init(model, batch_size=4)
        >>> chunk = Chunk(torch.ones(5, 4, 2), torch.ones(5, 4, 1))
        >>> learner.instances(model, state, chunk).curvature["cell.weight_hh"].shape
        torch.Size([5, 3, 3])

    Source: Y. Bengio, P. Simard and P. Frasconi, "Learning long-term dependencies with gradient
    descent is difficult", IEEE Transactions on Neural Networks 5(2), 1994.

    Differs from the paper in: how it finds the curvature, and its mu, are not known to us: the
    exact diagonal is our choice. Sequences of a batch share w_{i,t}: their curvatures are averaged
    before the absolute value.
    """

    def __init__(self, mu: float, at_once: int = 256):
        if not mu > 0:
            raise ConfigurationError("mu", got=mu, expected="above 0")
        if at_once < 1:
            raise ConfigurationError("at_once", got=at_once, expected="at least 1")
        self.mu, self.at_once = mu, at_once

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """None."""
        return ()

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk, and back with slope and curvature."""
        walk = _Walk(model, state, chunk)
        total = torch.zeros_like(walk.theta)
        for slope, curvature in walk.back(self.at_once):
            total += slope / (curvature.abs() + self.mu)
        return Update(walk.loss, walk.named(total), walk.after)

    def instances(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> "Instances":
        """What each step's own weights do to the cost.

        Arguments:
            model: its parameters are read.
            state: before the chunk.
            chunk: the steps.
        """
        walk = _Walk(model, state, chunk)
        found = list(walk.back(self.at_once))[::-1]
        slopes, curvatures = (torch.stack(parts) for parts in zip(*found, strict=True))
        return Instances(walk.loss, walk.named(slopes), walk.named(curvatures))


class Instances(NamedTuple):
    """A cost's derivatives by the weights as each step alone uses them.

    Attributes:
        cost: C.
        slope: dC/dw_{i,t}, (time, ...) by the parameter's name.
        curvature: d2C/dw_{i,t}^2, likewise.
    """

    cost: Float[Tensor, ""]
    slope: dict[str, Tensor]
    curvature: dict[str, Tensor]


@final
class _Walk:
    """A chunk, run forward, that can be gone back through."""

    def __init__(self, model: StepwiseModel, state: LearnerState, chunk: Chunk):
        self.model, self.chunk = model, chunk
        self.parameters = {name: p.detach() for name, p in trained(model).items()}
        self.theta = torch.cat([p.flatten() for p in self.parameters.values()])
        # a tensor that two modules share has one entry, and is bound in both
        names = {id(p): name for name, p in trained(model).items()}
        every = model.named_parameters(remove_duplicate=False)
        self.places = {place: names[id(p)] for place, p in every if id(p) in names}
        self.resets, self.random = starts(state, chunk), generator_of(state)
        self.streams = draw(model, state.cell, self.resets, self.random)
        self.states: list[State] = [state.cell]
        losses: list[Tensor] = []
        with torch.no_grad():
            for t in range(len(chunk)):
                loss, after = self.step(t, self.theta, side_by_side(self.states[t]))
                losses.append(loss)
                self.states.append(after)
        self.loss = torch.stack(losses).sum()
        self.after = LearnerState(
            map_state(torch.Tensor.detach, self.states[-1]),
            torch.ones_like(state.started),
            (),
            self.random.get_state(),
        )

    def named(self, flat: Float[Tensor, "*time count"]) -> dict[str, Tensor]:
        """Those of each parameter, of numbers in the order of theta."""
        parts = flat.split([p.numel() for p in self.parameters.values()], -1)
        return {
            name: part.reshape(*flat.shape[:-1], *p.shape)
            for (name, p), part in zip(self.parameters.items(), parts, strict=True)
        }

    def step(
        self, t: int, theta: Float[Tensor, " count"], s: Float[Tensor, "batch size"]
    ) -> tuple[Float[Tensor, ""], State]:
        """The weighted loss of a step, mean over the batch, and the state after it."""
        given = self.named(theta)
        model = bind(self.model, {place: given[name] for place, name in self.places.items()})
        state = with_tensors(self.states[t], s)
        if bool(self.resets[t].any()):
            fresh = model.cell.initial_state(s.shape[0], dtype=s.dtype, device=s.device)
            state = restarted(self.resets[t], fresh, state)
        streams = tuple(stream[t] for stream in self.streams)
        projected = model.cell.project(self.chunk.inputs[t])
        output, after = advance(model.cell, projected, state, streams)
        weights = None if self.chunk.weights is None else self.chunk.weights[t]
        losses = model.losses(output, self.chunk.targets[t], weights)
        return losses.sum() / s.shape[0], after

    def back(self, at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Slope and curvature by theta, (count,) each, of each step from the last."""
        after = side_by_side(self.states[-1])
        v, hessian = torch.zeros_like(after), after.new_zeros(*after.shape, after.shape[1])
        for t in reversed(range(len(self.chunk))):
            slopes = grad(self._quadratic(t, after, v, hessian), argnums=(0, 1))
            s = side_by_side(self.states[t])
            of_theta, of_s = _along(slopes, self.theta, s)
            every = torch.arange(len(self.theta), device=s.device)
            curvature = vmap(of_theta, chunk_size=at_once)(every)
            slope, v = slopes(self.theta, s)
            if t > 0:
                every = torch.arange(s.shape[1], device=s.device)
                # of each sequence its own: they meet only in the weights
                hessian = vmap(of_s, out_dims=1, chunk_size=at_once)(every)
            after = s
            yield slope, curvature

    def _quadratic(self, t: int, after: Tensor, v: Tensor, hessian: Tensor) -> _Cost:
        """q."""

        def cost(theta: Tensor, s: Tensor) -> Tensor:
            loss, state = self.step(t, theta, s)
            moved = side_by_side(state) - after
            bent = torch.einsum("bi,bij,bj->", moved, hessian, moved)
            return loss + (v * moved).sum() + bent / 2

        return cost


def _along(slopes: Callable[..., Any], theta: Tensor, s: Tensor) -> tuple[_Index, _Index]:
    """How the slope by weight i changes with it; how those by the state do with its number k."""

    def of_theta(i: Tensor) -> Tensor:
        e = (torch.arange(len(theta), device=theta.device) == i).to(theta)
        return (jvp(lambda theta: slopes(theta, s)[0], (theta,), (e,))[1] * e).sum()

    def of_s(k: Tensor) -> Tensor:
        e = (torch.arange(s.shape[1], device=s.device) == k).to(s).expand_as(s)
        return jvp(lambda s: slopes(theta, s)[1], (s,), (e,))[1]

    return of_theta, of_s
