"""Gradient flow: how much of the loss's gradient arrives at each step of the past."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.binding import bind
from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.state import State
from throughtime.engines import Engine, Request, Result, unroll
from throughtime.layers import RecurrentLayer
from throughtime.layers.adopt import adopt


@dataclasses.dataclass(frozen=True, eq=False)
class GradientFlow:
    """Where in time the gradient of one loss is, for the forward cells of one layer.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: which cell of its stack, from the bottom.
        per_unit: |dL/dh_t| of each unit: root of the sum of squares over the batch. All in float64.
        norm: ||dL/dh_t||, over batch and units.
        contribution: norm of step t's part of the gradient of the recurrent weights (without
            biases): the summands of dL/dW = sum over tau of (dL/da_tau) (da_tau/dW).
    """

    layer: str
    level: int
    per_unit: Float[Tensor, "time hidden"]
    norm: Float[Tensor, " time"]
    contribution: Float[Tensor, " time"]

    @property
    def norm_by_lag(self) -> Float[Tensor, " time"]:
        """`norm` by the number of steps before the last one, from 0."""
        return self.norm.flip(0)

    @property
    def contribution_by_lag(self) -> Float[Tensor, " time"]:
        """`contribution` by the number of steps before the last one, from 0."""
        return self.contribution.flip(0)

    def reach(self, fraction: float = 0.01) -> int:
        """The longest lag at which ||dL/dh|| is at least this fraction of its largest value.

        Arguments:
            fraction: in (0, 1].

        Returns:
            Steps before the last one, from 0 to time - 1; 0 if there is no gradient at all. A
            gradient that is not finite has exploded: it reaches.
        """
        norms = self.norm_by_lag
        finite = norms.isfinite()
        largest = torch.where(finite, norms, 0.0).max()
        reached = ~finite | ((norms >= fraction * largest) & (norms > 0))
        return int(reached.nonzero().max()) if bool(reached.any()) else 0


def gradient_flow(
    model: nn.Module, loss: Callable[[], Tensor], *, layer: str | None = None, level: int = -1
) -> GradientFlow:
    """Measure ||dL/dh_t|| at every step, and each step's contribution to the weights' gradient.

        dL/dh_t = sum over all paths from h_t to the loss, through outputs and later states

    The model runs once, with the recurrent layer's place taken by a replica that steps through
    time on the same parameters. Sequences shorter than the longest have no gradient beyond their
    length. Afterwards the model is as it was: parameters, their gradients, buffers, modes, random
    state.

    Arguments:
        model: any module that holds a `torch.nn.RNN/LSTM/GRU` or a layer of throughtime.
        loss: runs the model on a batch and returns a scalar, as `lambda: f(model(x), y)`.
        layer: the recurrent layer's name within the model, needed if there are several.
        level: which cell of a stack, from the bottom; the top one by default.

    Returns:
        Norms by time step, on the CPU, in float64. Frozen weights count as if they were not.

    Raises:
        ConfigurationError: no recurrent layer, or several and none named; its forward is not
            torch's or ours, so that no replica is known; the loss is no scalar, does not depend
            on the layer, runs it more than once, or calls backward.
        UnknownNameError: no recurrent layer of that name.

    Example:
        >>> model = nn.LSTM(1, 8)
        >>> flow = gradient_flow(model, lambda: model(torch.ones(20, 2, 1))[0][-1].sum())
        >>> flow.norm.shape, flow.per_unit.shape
        (torch.Size([20]), torch.Size([20, 8]))
    """
    name, recurrent = find_recurrent(model, layer)
    replica = adopt(recurrent)
    directions = replica.num_directions
    if not -replica.num_layers <= level < replica.num_layers:
        raise ConfigurationError(
            "level", got=level, expected=f"a layer of the {replica.num_layers} in {name!r}"
        )
    level %= replica.num_layers
    probe = _Probe(level * directions, directions * replica.num_layers)
    replica.engine = probe
    with _unchanged(model), _in_place_of(recurrent, replica), torch.enable_grad():
        value = loss()
        if not isinstance(value, Tensor) or value.dim() != 0:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigurationError("loss", got=shape, expected="a scalar tensor")
        return probe.measure(value, name, level)


@final
class _Probe(Engine):
    """The eager engine, keeping the tensors h_t of one cell and the gradient through each step."""

    name = "probe"

    def __init__(self, position: int, cells: int):
        self.position, self.cells, self.runs = position, cells, 0
        self.states: list[Tensor] = []
        self.rows: list[Tensor | None] = []
        self.squares: list[Tensor] = []
        self.weights: dict[int, Tensor] = {}

    def refusal(self, request: Request) -> None:
        """It refuses nothing."""

    def run(self, request: Request) -> Result:
        """Run eagerly; observe if it is the turn of the cell that is measured."""
        position, self.runs = self.runs % self.cells, self.runs + 1
        if self.runs > self.cells:
            raise ConfigurationError(
                "loss", got="a loss that runs the recurrent layer twice", expected="one run"
            )
        if position != self.position:
            return unroll(request)
        return unroll(request, self)

    def before_step(self, t: int, cell: Cell) -> Cell:
        """The cell on views of its weights whose gradients are this step's alone."""
        del t
        total = torch.zeros((), dtype=torch.float64)
        self.squares.append(total)

        def add(gradient: Tensor) -> None:
            total.add_(gradient.detach().double().square().sum().cpu())

        views: dict[str, Tensor] = {}
        for name, parameter in cell.named_parameters():
            view = parameter.view_as(parameter)
            if view.requires_grad and not name.rpartition(".")[2].startswith("bias"):
                view.register_hook(add)
                self.weights[id(parameter)] = parameter
            views[name] = view
        return bind(cell, {**views, **dict(cell.named_buffers())})

    def after_step(self, t: int, rows: Tensor | None, state: State) -> None:
        """Keep h_t as the graph holds it."""
        del t
        self.states.append(state.h)
        self.rows.append(rows)

    def measure(self, loss: Tensor, layer: str, level: int) -> GradientFlow:
        """Differentiate the loss."""
        if not self.states:
            raise ConfigurationError(
                "loss", got="a loss that does not run the recurrent layer", expected="one that does"
            )
        if not loss.requires_grad:
            raise ConfigurationError(
                "loss", got="a loss without gradient", expected="one that depends on the layer"
            )
        # the weights are asked for so that the gradients of their views are computed at all
        wanted = [*self.states, *self.weights.values()]
        try:
            gradients = torch.autograd.grad(loss, wanted, allow_unused=True)[: len(self.states)]
        except RuntimeError as error:
            raise ConfigurationError(
                "loss",
                got=f"no way back: {str(error).splitlines()[0]}",
                expected="a graph that is whole",
                fix="The loss must not call backward itself.",
            ) from error
        if all(g is None for g in gradients):
            raise ConfigurationError(
                "loss", got="a loss that the layer's states do not reach", expected="one they do"
            )
        # in float64: squares underflow long before the gradient itself does
        filled = [
            torch.zeros_like(h, dtype=torch.float64) if g is None else g.double()
            for g, h in zip(gradients, self.states, strict=True)
        ]
        per_unit = torch.stack([g.square().sum(0).sqrt() for g in filled]).cpu()
        norm = torch.stack([g.norm() for g in filled]).cpu()
        contribution = torch.stack(self.squares).sqrt()
        return GradientFlow(layer, level, per_unit, norm, contribution)


def find_recurrent(model: nn.Module, name: str | None = None) -> tuple[str, nn.Module]:
    """The recurrent layer of a model: the one named, or the only one.

    Arguments:
        model: where to look.
        name: of the layer within the model; needed if there are several.

    Returns:
        Its name and the layer.

    Raises:
        ConfigurationError: there is none, or there are several and none is named.
        UnknownNameError: no recurrent layer of that name.
    """
    found = {
        key: module
        for key, module in model.named_modules()
        if isinstance(module, nn.RNNBase | RecurrentLayer)
    }
    if name is not None:
        if name not in found:
            raise UnknownNameError("recurrent layer", name, found)
        return name, found[name]
    if len(found) != 1:
        raise ConfigurationError(
            type(model).__name__,
            got=f"{len(found)} recurrent layers" + (f": {', '.join(found)}" if found else ""),
            expected="one",
            fix="Name it: layer=..." if found else "It needs nn.RNN/LSTM/GRU or one of ours.",
        )
    return next(iter(found.items()))


@contextlib.contextmanager
def _in_place_of(layer: nn.Module, replica: RecurrentLayer) -> Iterator[None]:
    """Let calls of `layer` run `replica`: an attribute of the instance hides the class's method."""
    known = (nn.LSTM.forward, nn.GRU.forward, nn.RNN.forward, RecurrentLayer.forward)
    if "forward" in layer.__dict__ or type(layer).forward not in known:
        raise ConfigurationError(
            f"gradient_flow of {type(layer).__name__}",
            got="a forward of its own",
            expected="that of torch.nn or throughtime, whose replica is known",
        )

    def forward(*arguments: Any, **options: Any) -> Any:
        # now, after hooks that recompute weights (pruning, weight and spectral norm) have run
        replica.share_tensors(layer, with_gradient=True)
        return replica.forward(*arguments, **options)

    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        del layer.__dict__["forward"]


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put modes, buffers, gradients and random state back as they were, whatever the loss does."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    gradients = [
        (parameter, parameter.grad, None if parameter.grad is None else parameter.grad.clone())
        for parameter in model.parameters()
    ]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for module, training in modes:
                    module.training = training
                for module, name, buffer, value in buffers:
                    module._buffers[name] = buffer.copy_(value)
                for parameter, gradient, value in gradients:
                    parameter.grad = gradient
                    if gradient is not None and value is not None:
                        gradient.copy_(value)
