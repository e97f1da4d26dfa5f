"""Time-weighted pseudo-Newton (Bengio et al. 1994): each step's own weights, by their curvature."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import grad, jvp, vmap

from throughtime.core.cell import Streams, advance, bind
from throughtime.core.errors import ConfigurationError
from throughtime.core.scoring import StepwiseModel
from throughtime.core.state import Layout, State, map_state, restarted
from throughtime.engines import Request, run
from throughtime.learning.learner import (
    Chunk,
    Learner,
    LearnerState,
    Update,
    draw,
    generator_of,
    refuse_autocast,
    starts,
    states_before,
    trained,
)

_Step: TypeAlias = Callable[[Tensor, Tensor, "_At"], tuple[Tensor, Tensor]]


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
    step takes a forward pass over its gradient for each weight and for each number of its state,
    `at_once` of which, of several steps, are taken together. That is for small networks, whose
    read-out and loss draw no random numbers and are of functions that torch.func.vmap supports.

    A chunk is to be one sequence: neither slope nor curvature goes back beyond its start.

    Arguments:
        mu: above 0, what keeps the step bounded where the cost is flat.
        at_once: number of forward passes that are taken together, at least 1.

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
        """Go forward through the chunk, and back with slope and curvature.

        Raises:
            LearnerRefusalError: under autocast.
        """
        refuse_autocast("PseudoNewton", chunk, "a second derivative is lost in rounding")
        walk = _Walk(model, state, chunk)
        total = torch.zeros_like(walk.theta)
        for slope, curvature in walk.back(self.at_once):
            total += slope / (curvature.abs() + self.mu)
        return Update(walk.loss, walk.named(total), walk.after)

    def instances(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> "Instances":
        """Return the derivatives of the cost by each step's own weights.

        Arguments:
            model: its parameters are read.
            state: the learner's state before the chunk.
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


class _At(NamedTuple):
    """The data of a step beside weights and state; of several steps, each with an axis of time."""

    state: State
    x: Float[Tensor, "*time batch input"]
    targets: Tensor
    weights: Float[Tensor, "*time batch"]
    fresh: Bool[Tensor, "*time batch"]
    streams: Streams


@final
class _Walk:
    """A chunk, run forward, that can be gone back through."""

    def __init__(self, model: StepwiseModel, state: LearnerState, chunk: Chunk):
        self.model, cell = model, model.cell
        self.parameters = {name: p.detach() for name, p in trained(model).items()}
        self.theta = torch.cat([p.flatten() for p in self.parameters.values()])
        # a tensor that two modules share has one entry, and is bound in both
        names = {id(p): name for name, p in trained(model).items()}
        every = model.named_parameters(remove_duplicate=False)
        self.places = {place: names[id(p)] for place, p in every if id(p) in names}
        resets, random = starts(state, chunk), generator_of(state)
        streams = draw(model, state.cell, resets, random)
        weights = torch.ones_like(chunk.inputs[..., 0]) if chunk.weights is None else chunk.weights
        with torch.no_grad():
            request = Request(cell, chunk.inputs, state.cell, None, resets, streams, "states")
            result = run(request, "auto")
            losses = model.losses(result.outputs, chunk.targets, chunk.weights)
        rows = states_before(cell, state.cell, result.states, resets)
        before = map_state(lambda s: s.unflatten(0, resets.shape), rows)
        self.layout = Layout(rows)
        self.s = self.layout.flatten(rows).unflatten(0, resets.shape)
        self.at = _At(before, chunk.inputs, chunk.targets, weights, resets, streams)
        self.loss = losses.sum() / resets.shape[1]
        started = torch.ones_like(state.started)
        self.after = LearnerState(result.state, started, (), random.get_state())

    def named(self, flat: Float[Tensor, "*time count"]) -> dict[str, Tensor]:
        """Split numbers in the order of theta by the parameters' names."""
        parts = flat.split([p.numel() for p in self.parameters.values()], -1)
        return {
            name: part.reshape(*flat.shape[:-1], *p.shape)
            for (name, p), part in zip(self.parameters.items(), parts, strict=True)
        }

    def step(
        self, theta: Float[Tensor, " count"], s: Float[Tensor, "batch size"], at: _At
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "batch size"]]:
        """The weighted loss of a step, mean over the batch, and the state after it."""
        given, batch = self.named(theta), s.shape[0]
        model = bind(self.model, {place: given[name] for place, name in self.places.items()})
        fresh = model.cell.initial_state(batch, dtype=s.dtype, device=s.device)
        before = self.layout.unflatten(s, self.layout.whole(at.state))
        state = restarted(at.fresh, fresh, before)
        output, after = advance(model.cell, model.cell.project(at.x), state, at.streams)
        losses = model.unweighted(output, at.targets) * at.weights + model.penalties(output)
        return losses.sum() / batch, self.layout.flatten(after)

    def back(self, at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield slope and curvature by theta, (count,) each, of each step from the last."""
        time, batch = self.at.fresh.shape
        s = self.s
        v, hessian = torch.zeros_like(s[0]), s.new_zeros(batch, s.shape[2], s.shape[2])
        many = max(1, at_once // len(self.theta))
        for stop in range(time, 0, -many):
            start = max(0, stop - many)
            at = _At(*(map_state(_part(start, stop), part) for part in self.at))
            curved = _Block(self.step, self.theta, s[start:stop], at, at_once)
            slopes, curvatures, v, hessian = curved.back(v, hessian)
            yield from zip(slopes.flip(0), curvatures.flip(0), strict=True)


@final
class _Block:
    """Some steps whose derivatives are found at once, by the state before each and by theta."""

    def __init__(self, step: _Step, theta: Tensor, s: Tensor, at: _At, at_once: int):
        self.step, self.theta, self.s, self.at, self.at_once = step, theta, s, at, at_once

    def back(self, v: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Slopes and curvatures by theta, (time, count), and v and H before the steps.

        Arguments:
            v, hessian: derivatives of the costs after the steps, by the state after them.
        """
        theta, s, at = self.theta, self.s, self.at
        own, by_s = vmap(lambda s, at: self._by_state(s, at))(s, at)
        later = [v]
        for slope, jacobian in zip(own.flip(0), by_s.flip(0), strict=True):
            later.append(slope + torch.einsum("bi,bij->bj", later[-1], jacobian))
        vs = torch.stack(later[-2::-1])
        # of each sequence its own: they meet only in the weights
        bent = vmap(lambda s, at, v: self._curved_by_state(s, at, v))(s, at, vs)
        hessians = [hessian]
        for own_curvature, jacobian in zip(bent.flip(0), by_s.flip(0), strict=True):
            hessians.append(own_curvature + jacobian.mT @ hessians[-1] @ jacobian)
        every = torch.stack(hessians[-2::-1])
        slopes, curvatures = vmap(lambda s, at, v, h: self._by_theta(theta, s, at, v, h))(
            s, at, vs, every
        )
        return slopes, curvatures, later[-1], hessians[-1]

    def _by_state(self, s: Tensor, at: _At) -> tuple[Tensor, Tensor]:
        """l_s, (batch, size), and F_s, (batch, size, size)."""
        own = grad(lambda s: self.step(self.theta, s, at)[0])(s)
        by_s = self._along_state(lambda s: self.step(self.theta, s, at)[1], s)
        return own, by_s

    def _curved_by_state(self, s: Tensor, at: _At, v: Tensor) -> Tensor:
        """l_ss + v' F_ss, (batch, size, size)."""
        return self._along_state(grad(lambda s: _linear(*self.step(self.theta, s, at), v)), s)

    def _along_state(self, function: Callable[[Tensor], Tensor], s: Tensor) -> Tensor:
        """Derivatives by each number of a row's state, along a last axis."""
        eye = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
        return vmap(
            lambda e: jvp(function, (s,), (e.expand_as(s),))[1],
            out_dims=-1,
            chunk_size=self.at_once,
        )(eye)

    def _by_theta(
        self, theta: Tensor, s: Tensor, at: _At, v: Tensor, hessian: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Slope and curvature of q."""
        after = self.step(theta, s, at)[1]
        slope = grad(lambda theta: _quadratic(*self.step(theta, s, at), after, v, hessian))
        eye = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        along = vmap(lambda e: (jvp(slope, (theta,), (e,))[1] * e).sum(), chunk_size=self.at_once)
        return slope(theta), along(eye)


def _part(start: int, stop: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[start:stop]


def _linear(loss: Tensor, after: Tensor, v: Tensor) -> Tensor:
    return loss + (v * after).sum()


def _quadratic(loss: Tensor, state: Tensor, after: Tensor, v: Tensor, hessian: Tensor) -> Tensor:
    """q."""
    moved = state - after
    return loss + (v * moved).sum() + torch.einsum("bi,bij,bj->", moved, hessian, moved) / 2
