"""Custom cells in a user's own loop, found by their calls; and loops written out in one forward."""

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.foreign.adapters import (
    Adapter,
    Steps,
    known_by_class,
    looks_recurrent,
    registered,
    takes_state,
)
from throughtime.foreign.loop_site import LoopsError, looped
from throughtime.foreign.sites import recurrent_layers
from throughtime.foreign.unchanged import evaluating
from throughtime.foreign.watching import watch

_MOST_CALLS = 2000


@dataclasses.dataclass
class _Calls:
    """Calls of one module.

    Attributes:
        links: number of calls whose state is the end of the call before.
        count: number of calls.
        form: "state" or "output and state", what all calls returned.
        start: state of the first call; None if it got none.
        end: state that the last call returned.
        unlike: If True, a call was no step.
        apart: If True, the tensors of the state are arguments of their own.
    """

    links: int = 0
    count: int = 0
    form: Any = None
    start: Any = None
    end: Any = None
    unlike: bool = False
    apart: bool = False

    def add(self, x: Any, state: Any, result: Any) -> None:
        """Add a call, or note that it is no step."""
        form = _form(x, state, result, self.form)
        if form is None or self.count >= _MOST_CALLS:
            self.unlike = True
            return
        self.links += int(self.count > 0 and _same(state, self.end))
        if self.count == 0:
            self.start = state
        self.form, self.count = form, self.count + 1
        self.end = result if form == "state" else result[1]


@contextlib.contextmanager
def cells_found(model: nn.Module, loss: Callable[[nn.Module], Any]) -> Iterator[None]:
    """Within the block, cells are known that the model's loop calls once a step.

    A module is such a cell if every call is forward(x, state) with x of (batch, input), and returns
    a state of the same form, alone or after an output; and if some call goes on from the call
    before, or it is named as recurrent modules are. It is tried: its steps, run from outside, have
    to give what its forward gives. Without such a cell, the innermost modules whose forward runs
    over all steps are known. Nothing is done where the model has a layer that is known.

    Arguments:
        model: copy of the model. What the loss changes in it stays changed.
        loss: function of the model, which runs it once.
    """
    if recurrent_layers(model):
        yield
        return
    adapters = _candidates(model, loss)
    for kind in [*adapters]:
        with registered({kind: adapters[kind]}):
            try:
                for name in recurrent_layers(model):
                    with evaluating(model):
                        watch(model, lambda: loss(model), layer=name, gradients=False)
            except Exception:  # noqa: BLE001 what its steps raise when they are run from outside
                del adapters[kind]
    with registered(adapters), looped({} if adapters else _with_loops(model, loss)):
        yield


def _with_loops(model: nn.Module, loss: Callable[[nn.Module], Any]) -> dict[type[nn.Module], int]:
    """Return the number of loops over time in the forwards of the innermost modules with some."""
    found: dict[str, nn.Module] = {}
    numbers: dict[type[nn.Module], int] = {}
    modules = [
        (n, m) for n, m in model.named_modules() if not type(m).__module__.startswith("torch.")
    ]
    for name, module in reversed(modules):
        if any(not name or inner.startswith(f"{name}.") for inner in found):
            continue
        for number in _loops_in(model, name, module, loss):
            found[name], numbers[type(module)] = module, number
    return numbers


def _loops_in(model: nn.Module, name: str, module: nn.Module, loss: Any) -> Iterator[int]:
    """Yield the number of loops in a module's forward, if there are some."""
    number = 1
    for _ in range(2):  # the first time may tell the number
        with looped({type(module): number}), evaluating(model):
            try:
                watch(model, lambda: loss(model), layer=name, gradients=False)
            except LoopsError as error:
                number = error.found
                continue
            except Exception:  # noqa: BLE001 what its steps raise when they are run from outside
                return
        yield number
        return


def _candidates(model: nn.Module, loss: Callable[[nn.Module], Any]) -> dict[type, Adapter]:
    """Run the loss, and return adapters of the classes whose calls are steps."""
    calls: dict[str, _Calls] = {}
    handles: list[Any] = []
    modules = {n: m for n, m in model.named_modules() if not known_by_class(type(m))}
    for name, module in modules.items():
        if not takes_state(module):
            continue
        calls[name] = _Calls()

        def hook(
            module: nn.Module, given: Any, named: Any, result: Any, one: _Calls = calls[name]
        ) -> None:
            values = inspect.signature(module.forward).bind(*given, **named).arguments.values()
            x, state, *more = (*values, None)[: max(2, len(values))]
            if more and all(isinstance(part, Tensor) for part in (state, *more)):
                state, more, one.apart = (state, *more), [], True  # forward(x, h, c)
            one.unlike |= any(value is not None for value in more)
            one.add(x, state, result)

        handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        with evaluating(model):
            loss(model)
    except Exception:  # noqa: BLE001 the diagnosis runs the loss again, and says what it raises
        return {}
    finally:
        for handle in handles:
            handle.remove()
    found: dict[type, dict[Any, _Calls]] = {}
    for name, one in calls.items():
        called = re.search("rnn|lstm|gru|cell", name.rpartition(".")[2].lower()) is not None
        enough = one.links > 0 or called or looks_recurrent(modules[name])
        if not one.unlike and one.count > 1 and enough:
            found.setdefault(type(modules[name]), {})[_shapes(modules[name])] = one
    return {kind: _adapter(seen) for kind, seen in found.items()}


def _adapter(seen: Mapping[Any, _Calls]) -> Adapter:
    """Return the adapter of a class from the calls of its modules, by their parameters' shapes."""

    def adapter(module: Any) -> Steps:
        one = seen.get(_shapes(module), next(iter(seen.values())))
        like, given = one.end, one.start is not None
        parts = _tensors(like)
        rows = [
            _row(start) if given else torch.zeros_like(end[:1])
            for start, end in zip(_tensors(one.start) if given else parts, parts, strict=True)
        ]

        def initial(size: int) -> Any:
            states = [row.expand(size, *row.shape[1:]).clone() for row in rows]
            if isinstance(like, Tensor):
                return states[0]
            return type(like)(*states) if hasattr(like, "_fields") else type(like)(states)

        memories = ("c",) if len(parts) == 2 else ()

        def apart(x: Tensor, state: Any) -> Any:
            return module.forward(x, *state)

        step = apart if one.apart else module.forward
        return Steps(step, initial, one.form, memories=memories)

    return adapter


def _row(start: Tensor) -> Tensor:
    """Return the row of a first state that has the same for all samples; else zeros."""
    one = start[:1].detach()
    return one if bool((start == one).all()) else torch.zeros_like(one)


def _form(x: Any, state: Any, result: Any, before: Any) -> Any:
    """Return the form of a step's result: "state" or "output and state"; None if it is no step."""
    if not isinstance(x, Tensor) or x.dim() != 2 or not x.is_floating_point():
        return None
    if state is None:  # of a first step: the form is that of later ones
        pair = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], tuple)
        return before or ("output and state" if pair else "state")
    if _alike(state, result, len(x)):
        return "state"
    pair = isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor)
    return "output and state" if pair and _alike(state, result[1], len(x)) else None


def _alike(state: Any, result: Any, batch: int) -> bool:
    pairs = [*zip(_tensors(state), _tensors(result), strict=False)]
    same_kind = isinstance(state, Tensor) == isinstance(result, Tensor)
    same = all(a.shape == b.shape and a.shape[:1] == (batch,) and a.dim() > 1 for a, b in pairs)
    return same_kind and len(_tensors(state)) == len(_tensors(result)) > 0 and same


def _tensors(state: Any) -> list[Tensor]:
    parts = state if isinstance(state, tuple | list) else (state,)
    return [*parts] if all(isinstance(part, Tensor) for part in parts) else []


def _same(state: Any, end: Any) -> bool:
    pairs = [*zip(_tensors(state), _tensors(end), strict=False)]
    return bool(pairs) and all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def _shapes(module: nn.Module) -> tuple[torch.Size, ...]:
    return tuple(parameter.shape for parameter in module.parameters())
