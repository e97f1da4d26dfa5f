"""Watching one cell of a model while the model runs: each call, and the link of its state."""

import dataclasses
from collections.abc import Callable
from typing import Literal, final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines import Observer, Request, Result, unroll
from throughtime.foreign.sites import Place, find_recurrent, run_by, site_of

Link = Literal["connected", "changed", "detached", "fresh"]
"""Link of a call's state to the end of the call before. "connected": the same values, with their
graph. "changed": made from them (a mask, dropout), with the graph. "detached": without the graph.
"fresh": the initial state."""


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One run of the watched cell.

    Attributes:
        request: request of the model. Its state is a view of its own, so that the gradient through
            it is separate from others.
        result: result, with the tensors that are in the model's graph.
        link: link to the call before; "fresh" for the first.
    """

    request: Request
    result: Result
    link: Link

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return self.request.inputs.shape[0]


@final
class Watcher:
    """Runs a module's cells with the eager engine, and keeps the calls of one of them.

    Arguments:
        direction: 0 for the forward cell, 1 for the reverse cell.
        observer: observer of the watched cell's steps; t starts from 0 in each call.
        change: function from a request of the watched cell, and the time at which it begins, to the
            request that is run instead; None to run it as it is.
    """

    def __init__(
        self,
        level: int,
        direction: int,
        observer: Observer | None = None,
        change: Callable[[Request, int], Request] | None = None,
    ):
        self.watched, self.observer, self.change = (level, direction), observer, change
        self.calls: list[Call] = []
        self.time = 0

    def run(self, request: Request, place: Place) -> Result:
        """Run eagerly, and keep the call of the watched cell."""
        if place[1:] != self.watched:
            return unroll(request)
        link = self._link(request)
        if self.change is not None:
            request = self.change(request, self.time)
        request = dataclasses.replace(
            request, state=map_state(lambda s: s.view_as(s), request.state)
        )
        result = unroll(dataclasses.replace(request, outputs="states"), self.observer)
        # a view of the end of its own, so that it shows which call's end it is
        result = result._replace(state=map_state(lambda s: s.view_as(s), result.state))
        self.calls.append(Call(request, result, link))
        self.time += request.inputs.shape[0]
        return result if request.outputs == "states" else result._replace(states=None)

    def _link(self, request: Request) -> Link:
        if not self.calls:
            return "fresh"
        ends = _floating(self.calls[-1].result.state)
        starts = _floating(request.state)
        graph = torch.is_grad_enabled()
        if len(starts) == len(ends) and all(map(_equal, starts, ends)):
            # an end without any graph, of weights that have gradients, was made under no_grad; a
            # part of it that never has a graph may lie beside, as the input of the step before
            made = [a for a, b in zip(starts, ends, strict=True) if b.requires_grad]
            linked = bool(made) and all(a.requires_grad for a in made)
            return "connected" if linked or not graph else "detached"
        like = request.state.h
        initial = request.cell.initial_state(like.shape[0], dtype=like.dtype, device=like.device)
        if all(map(_equal, starts, _floating(initial))):
            return "fresh"
        return "changed" if not graph or _depends(starts, ends) else "detached"


def _floating(state: State) -> list[Tensor]:
    return [tensor for tensor in state_tensors(state) if tensor.is_floating_point()]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _depends(starts: list[Tensor], ends: list[Tensor]) -> bool:
    """Return whether the graph leads from one state back to another."""
    roots = [start for start in starts if start.requires_grad]
    leaves = [end for end in ends if end.requires_grad]
    if not roots or not leaves:
        return False
    found = torch.autograd.grad(
        sum((root.sum() for root in roots), torch.zeros((), device=roots[0].device)),
        leaves,
        retain_graph=True,
        allow_unused=True,
    )
    return any(gradient is not None for gradient in found)


@dataclasses.dataclass(frozen=True, eq=False)
class Watched:
    """The loss of a model, and the calls of one of its cells.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: index of the cell, from the bottom.
        direction: 0 forward, 1 reverse.
        loss: result of the loss function, with its graph.
        calls: calls of the cell in order, at least one.
    """

    layer: str
    level: int
    direction: int
    loss: Tensor
    calls: tuple[Call, ...]

    @property
    def steps(self) -> int:
        """Number of time steps of all calls."""
        return sum(call.steps for call in self.calls)

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """Valid steps of each sequence; all steps where the model calls the layer several times."""
        first = self.calls[0].request
        if len(self.calls) == 1 and first.lengths is not None:
            return first.lengths.cpu()
        return torch.full((first.inputs.shape[1],), self.steps)


def watch(
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    layer: str | None = None,
    level: int = -1,
    direction: int = 0,
    observer: Observer | None = None,
    change: Callable[[Request, int], Request] | None = None,
    gradients: bool = True,
) -> Watched:
    """Run a loss, and one cell of the model step by step with the eager engine.

    Whatever the loss itself changes stays changed: see `unchanged`.

    Arguments:
        layer: the recurrent layer's name within the model, needed if there are several.
        level: index of the cell in its stack, from the bottom; the top one by default.
        direction: 0 forward, 1 the reverse cell of a bidirectional layer.
        observer: observer of the cell's steps; t starts from 0 in each call.
        change: function from a request of the cell, and the time at which it begins, to the request
            that is run instead.
        gradients: If True, autograd's graph is kept.

    Returns:
        The loss and the calls.

    Raises:
        ConfigurationError: no recurrent layer, or several and none named; no such level or
            direction; no replica is known; the loss is no scalar or does not run the layer.
        UnknownNameError: no recurrent layer of that name.
    """
    name, module = find_recurrent(model, layer)
    site = site_of(module)
    if not -site.levels <= level < site.levels:
        raise ConfigurationError(
            "level", got=level, expected=f"a layer of the {site.levels} in {name!r}"
        )
    if not 0 <= direction < site.directions:
        raise ConfigurationError(
            "direction", got=direction, expected=f"below {site.directions} in {name!r}"
        )
    watcher = Watcher(level % site.levels, direction, observer, change)
    with torch.set_grad_enabled(gradients):
        with run_by(module, watcher.run, site):
            value = loss()
        if not isinstance(value, Tensor) or value.dim() != 0:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigurationError("loss", got=shape, expected="a scalar tensor")
        if not watcher.calls:
            raise ConfigurationError(
                "loss", got="a loss that does not run the recurrent layer", expected="one that does"
            )
    return Watched(name, level % site.levels, direction, value, tuple(watcher.calls))
