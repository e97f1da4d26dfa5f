"""Adapters: descriptions of the steps of recurrent modules of other packages, by class."""

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.layers import RecurrentLayer


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """Description of the steps of one recurrent module.

    Attributes:
        step: function (x, state) -> result of one step, for x of (batch, input). A state is one
            tensor (batch, ...) or a flat tuple of such, and its first is h. A step is pure: it
            keeps nothing in the module and changes nothing in place.
        initial: function batch size -> the state from which the module starts by default.
        returns: "state": a step returns the new state, whose h is the output too; "output and
            state": it returns the pair of both.
        forward: "step": the module's forward(x, state=None) is one step, with the result of `step`.
            "time first", "batch first": it runs over x of (time, batch, input) or (batch, time,
            input) and returns (outputs, state).
        stacked: If True, the states of such a layer have torch's leading axis, of one layer.
        memories: names of the state's further tensors; s1, s2 ... by default.
    """

    step: Callable[[Tensor, Any], Any]
    initial: Callable[[int], Any]
    returns: Literal["state", "output and state"] = "state"
    forward: Literal["step", "time first", "batch first"] = "step"
    stacked: bool = False
    memories: tuple[str, ...] = ()


Adapter: TypeAlias = Callable[[Any], Steps]
"""Function from a module to its steps. It is called again for copies of the module that hold other
tensors."""

_KNOWN = (
    *(nn.Module, nn.RNNBase, nn.LSTM, nn.GRU, nn.RNN),
    *(nn.RNNCellBase, nn.LSTMCell, nn.GRUCell, nn.RNNCell),
    RecurrentLayer,
)
_REGISTERED: dict[type[nn.Module], Adapter] = {}


def register(module_class: type[nn.Module], adapter: Adapter) -> None:
    """Register the adapter of a class of recurrent modules, so that instruments can run them.

    The first call of such a module under an instrument is compared with its own forward, over its
    first steps. Modules that draw at random are not compared.

    Arguments:
        module_class: the class; its subclasses are run likewise.
        adapter: function from a module of the class to its steps. It must read its argument and no
            other module: it is called with copies too, which hold other tensors and no hooks.

    Raises:
        ConfigurationError: no class of modules, or a class that is known already.

    Example:
        >>> import torch
        >>> class Decay(nn.Module):
        ...     def __init__(self, size):
        ...         super().__init__()
        ...         self.rate = nn.Parameter(torch.full((size,), 0.5))
        ...     def forward(self, x, h=None):
        ...         return x if h is None else x + self.rate * h
        >>> register(Decay, lambda decay: Steps(decay.forward, lambda n: torch.zeros(n, 4)))
        >>> from throughtime.instruments import gradient_flow
        >>> decay = Decay(4)
        >>> def loss():
        ...     h = None
        ...     for x in torch.ones(3, 2, 4):
        ...         h = decay(x, h)
        ...     return h.sum()
        >>> flow = gradient_flow(decay, loss)
        >>> (flow.norm / flow.norm[-1]).tolist()
        [0.25, 0.5, 1.0]
    """
    if not (isinstance(module_class, type) and issubclass(module_class, nn.Module)):
        raise ConfigurationError("register", got=repr(module_class), expected="a class of modules")
    if module_class in _KNOWN:
        raise ConfigurationError(
            "register", got=module_class.__name__, expected="a class that is not known already"
        )
    _REGISTERED[module_class] = adapter


def adapter_of(module: nn.Module) -> Adapter | None:
    """Return the adapter of a module's class or of the nearest class above it, if there is one."""
    for kind in type(module).__mro__:
        if kind in _REGISTERED:
            return _REGISTERED[kind]
        if kind in _KNOWN:
            return None
        if kind.__module__.partition(".")[0] == "torchrecurrent" and kind.__name__ in _FORMS:
            return _torchrecurrent
    return None


def looks_recurrent(module: nn.Module) -> bool:
    """Return whether a module has a name, or weights, as recurrent modules have."""
    named = re.search(r"RNN|LSTM|GRU|Cell", type(module).__name__) is not None
    return named or any(name.startswith("weight_hh") for name in module._parameters)


def known_by_class(kind: type) -> bool:
    """Return whether a class is one of torch's or throughtime's recurrent modules."""
    return issubclass(kind, nn.RNNBase | nn.RNNCellBase | RecurrentLayer)


@contextlib.contextmanager
def registered(adapters: Mapping[type[nn.Module], Adapter]) -> Iterator[None]:
    """Register adapters of classes, and put the earlier ones back when the block ends."""
    before = dict(_REGISTERED)
    _REGISTERED.update(adapters)
    try:
        yield
    finally:
        _REGISTERED.clear()
        _REGISTERED.update(before)


def takes_state(module: nn.Module) -> bool:
    """Return whether a module's forward takes two arguments or more, as x and a state."""
    return len(_arguments(module)) >= 2


def _arguments(module: nn.Module) -> list[str]:
    """List the arguments of a module's forward; none where they are not known."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = {parameter.kind for parameter in parameters}
    return [] if inspect.Parameter.VAR_POSITIONAL in kinds else [p.name for p in parameters]


def how_to_register(module: nn.Module) -> str:
    """Return the line that describes the steps of a module whose class is not known."""
    kind = type(module).__name__
    parameters = _arguments(module)
    if len(parameters) == 1:
        return (
            f"If forward of {kind} runs all steps in a loop, move one step into a module of its "
            "own, forward(x, state) -> state: it is found where the loop calls it."
        )
    sizes = ("hidden_size", "hidden_dim", "hidden", "units", "nhid")
    size = next((f"cell.{n}" for n in sizes if isinstance(getattr(module, n, None), int)), "WIDTH")
    step, zeros = "cell.forward", f"torch.zeros(n, {size})"
    if len(parameters) > 2:  # as forward(x, h, c)
        states = len(parameters) - 1
        step = "lambda x, state: cell(x, *state)"
        zeros = f"({', '.join([zeros] * states)})"
    return (
        f"Describe its steps, with Steps and register of throughtime.instruments:\n"
        f"  register({kind}, lambda cell: Steps({step}, lambda n: {zeros}))\n"
        'where a step returns the new state; after an output: returns="output and state".'
    )


_FORMS = {
    "SingleStateCellBase": (1, "state"),
    "DoubleStateCellBase": (2, "state"),
    "DecoupledSingleStateCellBase": (1, "output and state"),
    "DecoupledDoubleStateCellBase": (2, "output and state"),
}


def _torchrecurrent(module: Any) -> Steps:
    """A cell of the package torchrecurrent: forward(inp, state=None), from zeros by default."""
    kinds = [kind.__name__ for kind in type(module).__mro__]
    count, returns = next(_FORMS[kind] for kind in kinds if kind in _FORMS)
    widths = [module.hidden_size] * count
    if "TGRUCell" in kinds or "TLSTMCell" in kinds:  # their second state is the input before
        widths[1] = module.input_size

    def initial(batch: int) -> Any:
        like = next(module.parameters())
        zeros = tuple(like.new_zeros(batch, width) for width in widths)
        return zeros if count == 2 else zeros[0]

    return Steps(
        module.forward,
        initial,
        "state" if returns == "state" else "output and state",
        memories=("c",)[: count - 1],
    )
