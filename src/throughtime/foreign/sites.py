"""Recurrent modules of a model: finding them, and running them by functions of ours."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, final

from torch import nn

from throughtime.cells import ElmanCell, GRUCell, LSTMCell
from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.engines import Engine, Place, Request, Result, Runner
from throughtime.foreign.adapters import adapter_of, how_to_register, looks_recurrent, takes_state
from throughtime.foreign.loop_site import LoopSite, is_looped
from throughtime.foreign.site import AdaptedSite, CellSite, LayerSite, Site
from throughtime.layers import RecurrentLayer

Run: TypeAlias = Callable[[Request, Place], Result]
"""Function that runs one cell of a module."""


def recurrent_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the recurrent layers and cells of a model by name, outermost only.

    Arguments:
        model: any module.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") or outer == "" for outer in found)
        if not inside and _maker(module) is not None:
            found[name] = module
    return found


def find_recurrent(model: nn.Module, name: str | None = None) -> tuple[str, nn.Module]:
    """Return the recurrent layer of a model: the one named, or the only one.

    Arguments:
        name: name of the layer within the model; needed if there are several.

    Returns:
        The layer's name, and the layer.

    Raises:
        ConfigurationError: there is none, or there are several and none is named.
        UnknownNameError: no recurrent layer of that name.
    """
    found = recurrent_layers(model)
    if name is not None:
        if name in found:
            return name, found[name]
        unknown = dict(model.named_modules()).get(name)
        if unknown is None or not (looks_recurrent(unknown) or takes_state(unknown)):
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
            fix = how_to_register(next(iter(seen.values())))
    raise ConfigurationError(type(model).__name__, got=got, expected="one", fix=fix)


def site_of(module: nn.Module) -> Site:
    """Return the site of a recurrent module.

    Arguments:
        module: a module that `recurrent_layers` finds.

    Raises:
        ConfigurationError: the module is not recurrent; or its forward is its own, so that no
            replica is known.
    """
    maker = _maker(module)
    if maker is None:
        raise _not_known(module)
    return maker(module)


@contextlib.contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace the forward of one module, and put the earlier one back when the block ends.

    An attribute of the instance hides the forward of its class. Blocks may be nested.

    Arguments:
        forward: function that is called in its place, without the module as first argument.
    """
    before = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = before


@contextlib.contextmanager
def kept_outputs(module: nn.Module) -> Iterator[list[Any]]:
    """Yield a list to which every call of a module within the block adds its result."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


@contextlib.contextmanager
def run_by(module: nn.Module, run: Run, site: Site | None = None) -> Iterator[Site]:
    """Let a function run the cells of a recurrent module, on the module's own tensors.

    Arguments:
        module: a module that `recurrent_layers` finds.
        run: function that gets each request with its place, and returns the result.
        site: site of this module, where it is at hand; making one takes a few milliseconds.

    Raises:
        ConfigurationError: the module has a forward of its own.
    """
    site = site_of(module) if site is None else site
    if "forward" in vars(module):
        raise ConfigurationError(
            f"{type(module).__name__}", got="a forward of its own", expected="its class's"
        )
    calls = itertools.count()

    def forward(*arguments: Any, **options: Any) -> Any:
        return site.call(_Placed(run, next(calls)), *arguments, **options)

    with replaced_forward(module, forward):
        yield site


@final
class _Placed(Engine):
    """The engine of one call of a module, whose number is the place of the requests."""

    name = "foreign"

    def __init__(self, run: Run, call: int):
        self._run, self._call = run, call

    def prepare(self, request: Request) -> Runner:
        """Run a request with its place; nothing is refused."""
        place = request.place._replace(call=self._call)
        return functools.partial(self._run, request, place)


_KNOWN = (
    "nn.RNN/LSTM/GRU, their cells, a layer of throughtime, a registered class, or a cell that the "
    "model's loop calls once a step as cell(x, state)"
)


def _not_known(module: nn.Module) -> ConfigurationError:
    return ConfigurationError(
        "recurrent layer",
        got=type(module).__name__,
        expected=_KNOWN,
        fix=how_to_register(module),
    )


def _maker(module: nn.Module) -> Callable[[nn.Module], Site] | None:
    adapter = adapter_of(module)
    if adapter is not None:
        return lambda module: AdaptedSite(module, adapter)
    if isinstance(module, nn.RNNBase | RecurrentLayer):
        return LayerSite
    if isinstance(module, nn.RNNCellBase):
        return _torch_cell
    if is_looped(module):
        return LoopSite
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
            fix=how_to_register(module),
        )
    return CellSite(
        module, cell, lambda given, fresh: fresh._replace(h=given), lambda state: state.h
    )
