"""Where a model is recurrent: its layers and cells, and how an engine of ours runs them."""

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
from throughtime.instruments.adapted import AdaptedSite
from throughtime.instruments.adapters import adapter_of, how_to_register, looks_recurrent
from throughtime.instruments.site import Site, with_rows, without_rows
from throughtime.layers import RecurrentLayer
from throughtime.layers.adopt import adopt


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
        if name in found:
            return name, found[name]
        unknown = dict(model.named_modules()).get(name)
        if unknown is None or not looks_recurrent(unknown):
            raise UnknownNameError("recurrent layer", name, found)
        raise _not_known(unknown)
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        got, fix = f"{len(found)} recurrent layers: {', '.join(found)}", "Name it: layer=..."
    else:
        seen = {n: m for n, m in model.named_modules() if looks_recurrent(m)}
        if len(seen) > 1:
            seen.pop("", None)  # a model is often named after what it holds
        got, fix = "0 recurrent layers", f"It needs {_KNOWN}."
        if seen:
            named = [f"{type(m).__name__} ({n or 'the model'})" for n, m in seen.items()]
            got += f" that are known, and what looks like some: {', '.join(named[:5])}"
            fix = how_to_register(type(next(iter(seen.values()))))
    raise ConfigurationError(type(model).__name__, got=got, expected="one", fix=fix)


def site_of(module: nn.Module) -> Site:
    """How an engine of ours runs a recurrent module.

    Arguments:
        module: one that `recurrent_layers` finds.

    Raises:
        ConfigurationError: no such module, or its forward is its own, so that no replica is known.
    """
    maker = _maker(module)
    if maker is None:
        raise _not_known(module)
    return maker(module)


@contextlib.contextmanager
def run_by(module: nn.Module, engine: Engine, site: Site | None = None) -> Iterator[Site]:
    """Let calls of a recurrent module be run by an engine, on its own tensors.

    Arguments:
        module: one that `recurrent_layers` finds. An attribute of the instance hides its class's
            forward until the block ends.
        engine: that runs it.
        site: of this module, where it is at hand; to make one takes a few milliseconds.
    """
    site = site_of(module) if site is None else site
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
                fix=how_to_register(type(layer)),
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
        before = fresh if state is None else self.initial(with_rows(state, batched), fresh)
        after = engine.run(Request(cell, rows[None], before)).state
        return without_rows(self.final(after), batched)


_KNOWN = "nn.RNN/LSTM/GRU, their cells, a layer of throughtime, or a registered class"


def _not_known(module: nn.Module) -> ConfigurationError:
    return ConfigurationError(
        "recurrent layer",
        got=type(module).__name__,
        expected=_KNOWN,
        fix=how_to_register(type(module)),
    )


def _maker(module: nn.Module) -> Callable[[nn.Module], Site] | None:
    adapter = adapter_of(module)
    if adapter is not None:
        return lambda module: AdaptedSite(module, adapter)
    if isinstance(module, nn.RNNBase | RecurrentLayer):
        return LayerSite
    if isinstance(module, nn.RNNCellBase):
        return _torch_cell
    return None


def _torch_cell(module: nn.Module) -> Site:
    sizes: Any = (module.input_size, module.hidden_size)
    options: Any = {"bias": module.bias}
    own = type(module).forward  # a parametrised cell is of a class made for it
    if own is nn.LSTMCell.forward:
        return CellSite(
            module,
            LSTMCell(*sizes, **options),
            lambda given, fresh: type(fresh)(*given),
            lambda state: (state.h, state.c),
        )
    if own is nn.GRUCell.forward:
        cell: Cell = GRUCell(*sizes, **options)
    elif own is nn.RNNCell.forward:
        nonlinearity: Any = module.nonlinearity
        cell = ElmanCell(*sizes, nonlinearity=nonlinearity, **options)
    else:
        raise ConfigurationError(
            f"{type(module).__name__}",
            got="a forward of its own",
            expected="that of nn.RNNCell, nn.LSTMCell or nn.GRUCell",
            fix=how_to_register(type(module)),
        )
    return CellSite(
        module, cell, lambda given, fresh: fresh._replace(h=given), lambda state: state.h
    )


def _input_and_state(input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
    return input, hx
