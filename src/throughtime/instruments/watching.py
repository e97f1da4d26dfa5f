"""Watching one cell of a model while the model runs: every call, and how its state came to it."""

import dataclasses
from collections.abc import Callable
from typing import Literal, final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines import Engine, Observer, Request, Result, unroll
from throughtime.instruments.sites import find_recurrent, run_by

Link = Literal["connected", "changed", "detached", "fresh"]
"""How a call's state comes from the end of the call before: as it is, with its graph; made from it
(a mask, dropout), with its graph; without its graph; or not at all: it is the initial state."""


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One run of the watched cell.

    Attributes:
        request: what was asked; its state is a view of its own, so that the gradient through it can
            be told from others'.
        result: what it gave; tensors as the model's graph holds them.
        link: to the call before; "fresh" for the first.
    """

    request: Request
    result: Result
    link: Link

    @property
    def steps(self) -> int:
        """How many time steps it ran."""
        return self.request.inputs.shape[0]


@final
class Watcher(Engine):
    """The eager engine, keeping the calls of one cell.

    Arguments:
        position: of the cell among those that run in turn.
        cells: how many do.
        observer: of the watched cell's steps; t goes on over its calls.
        change: what to make of the watched cell's requests before they run; they stay as they are
            if None.
    """

    name = "watcher"

    def __init__(
        self,
        position: int,
        cells: int,
        observer: Observer | None = None,
        change: Callable[[Request, int], Request] | None = None,
    ):
        self.position, self.cells, self.observer, self.change = position, cells, observer, change
        self.calls: list[Call] = []
        self.turn = self.time = 0

    def refusal(self, request: Request) -> None:
        """It refuses nothing."""

    def run(self, request: Request) -> Result:
        """Run eagerly; watch if it is the turn of the cell that is watched."""
        position, self.turn = self.turn, (self.turn + 1) % self.cells
        if position != self.position:
            return unroll(request)
        link = self._link(request)
        if self.change is not None:
            request = self.change(request, self.time)
        request = dataclasses.replace(
            request, state=map_state(lambda s: s.view_as(s), request.state)
        )
        asked = dataclasses.replace(request, outputs="states")
        observer = None if self.observer is None else _Shifted(self.observer, self.time)
        result = unroll(asked, observer)
        # a view of the end of its own, so that it tells which call's it is
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
            # part of it that never has one may be kept beside, as the input of the step before
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
    """Whether the graph leads from one state back to another."""
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


@final
class _Shifted(Observer):
    """An observer whose first step is not the first."""

    def __init__(self, observer: Observer, start: int):
        self.observer, self.start = observer, start

    def before_step(self, t, cell, projected):
        return self.observer.before_step(self.start + t, cell, projected)

    def after_step(self, t, rows, state):
        self.observer.after_step(self.start + t, rows, state)


@dataclasses.dataclass(frozen=True, eq=False)
class Watched:
    """What a model did while one of its cells was watched.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: of the cell, from the bottom.
        direction: 0 forward, 1 reverse.
        loss: what the loss returned, with its graph.
        calls: of the cell, in order, at least one.
    """

    layer: str
    level: int
    direction: int
    loss: Tensor
    calls: tuple[Call, ...]

    @property
    def steps(self) -> int:
        """How many time steps all calls took."""
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
    """Run a loss while one cell of the model is run step by step under our eyes.

    What the loss itself changes stays changed: see `unchanged`.

    Arguments:
        model: any module that holds a recurrent layer or cell.
        loss: runs the model on a batch and returns a scalar.
        layer: the recurrent layer's name within the model, needed if there are several.
        level: which cell of a stack, from the bottom; the top one by default.
        direction: 0 forward, 1 the reverse cell of a bidirectional layer.
        observer: of the cell's steps.
        change: of the cell's requests and the time at which each begins, before they are run.
        gradients: whether autograd's graph is kept.

    Returns:
        The loss and the calls.

    Raises:
        ConfigurationError: no recurrent layer, or several and none named; no such level or
            direction; no replica is known; the loss is no scalar or does not run the layer.
        UnknownNameError: no recurrent layer of that name.
    """
    name, module = find_recurrent(model, layer)
    with torch.set_grad_enabled(gradients):
        watcher = Watcher(0, 1, observer, change)
        with run_by(module, watcher) as site:
            if not -site.levels <= level < site.levels:
                raise ConfigurationError(
                    "level", got=level, expected=f"a layer of the {site.levels} in {name!r}"
                )
            if not 0 <= direction < site.directions:
                raise ConfigurationError(
                    "direction", got=direction, expected=f"below {site.directions} in {name!r}"
                )
            watcher.cells = site.levels * site.directions
            watcher.position = (level % site.levels) * site.directions + direction
            value = loss()
        if not isinstance(value, Tensor) or value.dim() != 0:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigurationError("loss", got=shape, expected="a scalar tensor")
        if not watcher.calls:
            raise ConfigurationError(
                "loss", got="a loss that does not run the recurrent layer", expected="one that does"
            )
    return Watched(name, level % site.levels, direction, value, tuple(watcher.calls))
