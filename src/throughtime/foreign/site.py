"""Sites: recurrent modules of a model, each callable with an engine of ours in place of forward."""

import abc
import functools
import inspect
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from throughtime.core.binding import bind
from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError
from throughtime.core.gated import GatedCell
from throughtime.core.state import State, map_state
from throughtime.engines import Engine, Request, Result, unroll
from throughtime.foreign.adapted import AdaptedCell, bare
from throughtime.foreign.adapters import Adapter, how_to_register
from throughtime.foreign.unchanged import random_states_kept
from throughtime.layers import GRU, LSTM, RNN, RecurrentLayer


class Site(abc.ABC):
    """A recurrent module of a model, run by an engine of ours on the module's own tensors.

    Attributes:
        levels: number of cells on top of each other.
        directions: 2 for a bidirectional layer, else 1.
    """

    levels: int = 1
    directions: int = 1

    @abc.abstractmethod
    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Return the result of the module's forward, computed by an engine.

        A layer makes one request of all steps for each level and direction, in this order. A cell
        that the model steps through time makes one request of one step.
        """


@final
class LayerSite(Site):
    """A layer of torch.nn or of throughtime, run by a replica.

    Arguments:
        layer: the layer.
    """

    def __init__(self, layer: nn.Module):
        known = (nn.LSTM.forward, nn.GRU.forward, nn.RNN.forward, RecurrentLayer.forward)
        if type(layer).forward not in known:
            raise ConfigurationError(
                f"{type(layer).__name__}",
                got="a forward of its own",
                expected="that of torch.nn or throughtime, whose replica is known",
                fix=how_to_register(type(layer)),
            )
        self.layer, self.replica = layer, _replica(layer)
        self.levels, self.directions = self.replica.num_layers, self.replica.num_directions

    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Run the replica."""
        # now, after hooks that recompute weights (pruning, weight and spectral norm) have run
        self.replica.share_tensors(self.layer, with_gradient=True)
        self.replica.train(self.layer.training)
        self.replica.engine = engine
        return self.replica.forward(*arguments, **options)


def _replica(layer: Any) -> RecurrentLayer:
    """Return a layer of throughtime on the parameters of a layer of torch.nn or throughtime."""
    if isinstance(layer, RecurrentLayer):
        return layer.replica()
    options: dict[str, Any] = {
        "num_layers": layer.num_layers,
        "bias": layer.bias,
        "batch_first": layer.batch_first,
        "bidirectional": layer.bidirectional,
        "device": "meta",
    }
    sizes = (layer.input_size, layer.hidden_size)
    if layer.mode == "LSTM":
        ours = LSTM(*sizes, proj_size=layer.proj_size, **options)
    elif layer.mode == "GRU":
        ours = GRU(*sizes, **options)
    else:
        ours = RNN(*sizes, nonlinearity=layer.mode.removeprefix("RNN_").lower(), **options)
    # set afterwards: a constructor would warn of dropout on a single layer
    ours.dropout = layer.dropout
    ours.share_tensors(layer)
    return ours.train(layer.training)


@final
class CellSite(Site):
    """A cell that the model steps through time itself: forward(x, state) is one step.

    Arguments:
        module: the cell.
        cell: a cell of throughtime whose parameters have the same names.
        initial: function from the state that the model passes, and the cell's initial state, to
            the cell's state.
        final: function from the cell's state to the result of the module.
    """

    def __init__(
        self,
        module: nn.Module,
        cell: Cell,
        initial: Callable[[Any, State], State],
        final: Callable[[State], Any],
    ):
        if isinstance(cell, GatedCell):
            _ = cell.additive  # traced once here, rather than at every step
        self.module, self.cell = module, cell.to("meta")
        self.initial, self.final = initial, final

    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Run one step."""
        x, state = _input_and_state(*arguments, **options)
        tensors: dict[str, Tensor] = {}
        for name, _ in self.cell.named_parameters():
            tensor = getattr(self.module, name)
            tensors[name] = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        batched = x.dim() == 2
        rows = x if batched else x[None]
        cell = bind(self.cell, tensors).train(self.module.training)
        fresh = cell.initial_state(rows.shape[0], dtype=rows.dtype, device=rows.device)
        before = fresh if state is None else self.initial(_with_rows(state, batched), fresh)
        after = engine.run(Request(cell, rows[None], before)).state
        return _without_rows(self.final(after), batched)


def _input_and_state(input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
    return input, hx


@final
class AdaptedSite(Site):
    """A module of a registered class, run by its adapter.

    Arguments:
        module: the module.
        adapter: description of its steps.
    """

    def __init__(self, module: nn.Module, adapter: Adapter):
        self.module, self.adapter = module, adapter
        self.cell: AdaptedCell | None = None

    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Run one step of a cell, or all steps of a layer.

        The first call is compared with the module's own forward.
        """
        x, state = self._input_and_state(*arguments, **options)
        if self.cell is None:
            self.cell = AdaptedCell(self.module, self.adapter, x.shape[-1])
            self._compare(x, state)
        return self._run(engine.run, x, state)

    def _run(self, run: Callable[[Request], Result], x: Tensor, state: Any) -> Any:
        assert self.cell is not None
        cell = self.cell.over(self.module)
        steps, batched = cell.steps, x.dim() > 1
        one, turned = steps.forward == "step", steps.forward == "batch first"
        axes = (1, 2) if one else (3,)
        if x.dim() not in axes:
            raise ConfigurationError(
                f"input of {type(self.module).__name__}",
                got=f"{x.dim()} axes",
                expected=f"{' or '.join(map(str, axes))}, as its adapter declares",
            )
        inputs = (x if batched else x[None])[None] if one else x.transpose(0, 1) if turned else x
        if state is None:
            where = {"dtype": inputs.dtype, "device": inputs.device}
            before = cell.initial_state(inputs.shape[1], **where)
        else:
            given = _with_rows(state, batched)
            before = cell.flat(_each(lambda s: s[0], given) if steps.stacked else given)
        result = run(Request(cell, inputs, before))
        after = cell.shaped(result.state)
        if one:
            whole = after if steps.returns == "state" else (result.outputs[0], after)
            return _without_rows(whole, batched)
        outputs = result.outputs.transpose(0, 1) if turned else result.outputs
        return outputs, _each(lambda s: s[None], after) if steps.stacked else after

    def _input_and_state(self, *arguments: Any, **options: Any) -> tuple[Any, Any]:
        if options or len(arguments) > 2:
            bound = self._signature.bind(*arguments, **options)
            first, second = [*self._signature.parameters, "", ""][:2]
            given = dict(bound.arguments)
            arguments = (given.pop(first, None), given.pop(second, None))
            if any(value is not None for value in given.values()):
                raise ConfigurationError(
                    f"{type(self.module).__name__}.forward",
                    got=f"{', '.join(given)} beside the input and the state",
                    expected="those two alone, which its adapter's step takes",
                )
        x, state = (*arguments, None)[:2]
        return x, state

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(type(self.module).forward.__get__(self.module))

    def _compare(self, x: Tensor, state: Any) -> None:
        """Raise if the adapter's first steps are not those of the module's own forward."""
        assert self.cell is not None
        if self.cell.steps.forward != "step" and x.dim() == 3:
            x = x[:3] if self.cell.steps.forward == "time first" else x[:, :3]
        own = bare(self.module)
        for part in own.modules():
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else buffer.clone()
        with torch.no_grad(), random_states_kept():
            arguments = (x,) if state is None else (x, state)
            expected, again = (pytree.tree_leaves(own.forward(*arguments)) for _ in range(2))
            if not all(_equal(a, b) for a, b in zip(expected, again, strict=True)):
                return  # it draws at random, and its steps need not draw in the same order
            ours = pytree.tree_leaves(self._run(unroll, x, state))
        if len(ours) != len(expected) or not all(
            _alike(a, b) for a, b in zip(ours, expected, strict=True)
        ):
            raise ConfigurationError(
                f"adapter of {type(self.module).__name__}",
                got="steps that do not give what the module's forward gives",
                expected="the same values in the same form",
                fix="Look at its initial state, at what it returns, and at its axes.",
            )


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor):
        return True
    return torch.equal(a, b) or bool(a.isnan().any())


def _alike(a: Any, b: Any) -> bool:
    """Equal but for the rounding of a few steps."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return False
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    tolerance = torch.finfo(a.dtype).eps ** 0.5 if a.is_floating_point() else 0.0
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def _each(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """Apply a function to every tensor of a module's own state: one, or a tuple or list of them."""
    if isinstance(state, list):
        return [function(s) for s in state]
    return map_state(function, state)


def _with_rows(state: Any, batched: bool) -> Any:
    """Give a state for one sequence a batch axis."""
    return state if batched else _each(lambda s: s[None], state)


def _without_rows(state: Any, batched: bool) -> Any:
    """Take the batch axis of a state for one sequence away."""
    return state if batched else _each(lambda s: s[0], state)
