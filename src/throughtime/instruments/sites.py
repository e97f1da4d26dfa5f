"""Where a model is recurrent: its layers and cells, and how an engine of ours runs them."""

import abc
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, final

from torch import Tensor, nn

from throughtime.cells import ElmanCell, GRUCell, LSTMCell
from throughtime.core.binding import bind
from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.gated import GatedCell
from throughtime.core.state import State
from throughtime.engines import Engine, Request
from throughtime.layers import RecurrentLayer
from throughtime.layers.adopt import adopt


class Site(abc.ABC):
    """A module of a model in which time passes, as an engine of ours can run it.

    Attributes:
        levels: cells on top of each other.
        directions: 1, or 2 of a bidirectional layer.
    """

    levels: int = 1
    directions: int = 1

    @abc.abstractmethod
    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """What the module's forward would return, run by this engine; every cell is a request.

        A layer makes a request of all steps for each level and direction, levels in order; a cell
        that the model itself steps through time makes a request of one step.
        """


def recurrent_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The recurrent layers and cells of a model by name, outermost only.

    Arguments:
        model: where to look.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") or outer == "" for outer in found)
        if not inside and _maker(module) is not None:
            found[name] = module
    return found


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
    found = recurrent_layers(model)
    if name is not None:
        if name not in found:
            raise UnknownNameError("recurrent layer", name, found)
        return name, found[name]
    if len(found) != 1:
        raise ConfigurationError(
            type(model).__name__,
            got=f"{len(found)} recurrent layers" + (f": {', '.join(found)}" if found else ""),
            expected="one",
            fix="Name it: layer=..."
            if found
            else "It needs nn.RNN/LSTM/GRU, their cells, or a layer of throughtime.",
        )
    return next(iter(found.items()))


def site_of(module: nn.Module) -> Site:
    """How an engine of ours runs a recurrent module.

    Arguments:
        module: one that `recurrent_layers` finds.

    Raises:
        ConfigurationError: no such module, or its forward is its own, so that no replica is known.
    """
    maker = _maker(module)
    if maker is None:
        raise ConfigurationError(
            "recurrent layer",
            got=type(module).__name__,
            expected="nn.RNN/LSTM/GRU, their cells, or a layer of throughtime",
        )
    return maker(module)


@contextlib.contextmanager
def run_by(module: nn.Module, engine: Engine) -> Iterator[Site]:
    """Let calls of a recurrent module be run by an engine, on its own tensors.

    Arguments:
        module: one that `recurrent_layers` finds. An attribute of the instance hides its class's
            forward until the block ends.
        engine: that runs it.
    """
    site = site_of(module)
    if "forward" in module.__dict__:
        raise ConfigurationError(
            f"{type(module).__name__}", got="a forward of its own", expected="its class's"
        )
    module.__dict__["forward"] = lambda *a, **options: site.call(engine, *a, **options)
    try:
        yield site
    finally:
        del module.__dict__["forward"]


@final
class LayerSite(Site):
    """A layer of torch.nn or of ours, by its replica.

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
            )
        self.layer, self.replica = layer, adopt(layer)
        self.levels, self.directions = self.replica.num_layers, self.replica.num_directions

    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Run the replica."""
        # now, after hooks that recompute weights (pruning, weight and spectral norm) have run
        self.replica.share_tensors(self.layer, with_gradient=True)
        self.replica.train(self.layer.training)
        self.replica.engine = engine
        return self.replica.forward(*arguments, **options)


@final
class CellSite(Site):
    """A cell that the model steps through time itself: forward(x, state) is one step.

    Arguments:
        module: the cell.
        cell: one of ours whose parameters have the same names.
        initial: the state from what the model passes as a state; None for the start.
        final: what the module returns, from the state.
    """

    def __init__(
        self,
        module: nn.Module,
        cell: Cell,
        initial: Callable[[Any, State], State],
        final: Callable[[State], Any],
    ):
        if isinstance(cell, GatedCell):
            _ = cell.additive  # seen once here, rather than at every step
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
        before = fresh if state is None else self.initial(_rowed(state, batched), fresh)
        after = engine.run(Request(cell, rows[None], before)).state
        result = self.final(after)
        return result if batched else _unrowed(result)


def _maker(module: nn.Module) -> Callable[[nn.Module], Site] | None:
    if isinstance(module, nn.RNNBase | RecurrentLayer):
        return LayerSite
    if isinstance(module, nn.RNNCellBase):
        return _torch_cell
    return None


def _torch_cell(module: nn.Module) -> Site:
    sizes: Any = (module.input_size, module.hidden_size)
    options: Any = {"bias": module.bias}
    if type(module) is nn.LSTMCell:
        return CellSite(
            module,
            LSTMCell(*sizes, **options),
            lambda given, fresh: type(fresh)(*given),
            lambda state: (state.h, state.c),
        )
    if type(module) is nn.GRUCell:
        cell: Cell = GRUCell(*sizes, **options)
    elif type(module) is nn.RNNCell:
        nonlinearity: Any = module.nonlinearity
        cell = ElmanCell(*sizes, nonlinearity=nonlinearity, **options)
    else:
        raise ConfigurationError(
            f"{type(module).__name__}",
            got="a subclass of a torch cell",
            expected="nn.RNNCell, nn.LSTMCell or nn.GRUCell itself",
        )
    return CellSite(
        module, cell, lambda given, fresh: fresh._replace(h=given), lambda state: state.h
    )


def _input_and_state(input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
    return input, hx


def _rowed(state: Any, batched: bool) -> Any:
    if batched:
        return state
    return tuple(s[None] for s in state) if isinstance(state, tuple) else state[None]


def _unrowed(state: Any) -> Any:
    return tuple(s[0] for s in state) if isinstance(state, tuple) else state[0]
