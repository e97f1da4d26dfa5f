"""A cell that reads its parameters from given tensors instead of its own."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

ModuleType = TypeVar("ModuleType", bound=nn.Module)


def bind(cell: ModuleType, tensors: Mapping[str, Tensor]) -> ModuleType:
    """Return a shallow copy of a cell with these tensors in place of its parameters and buffers.

    The cell itself is untouched, so that several threads may run it at once, which
    `torch.func.functional_call` does not allow: it swaps the tensors of the module in place.

    Arguments:
        cell: any cell, or module, whose submodules it copies likewise.
        tensors: tensors by name as in `named_parameters(remove_duplicate=False)`. Names that are
            left out keep the cell's own tensors. A tensor that a submodule shares with the module
            above it is replaced in both.

    Returns:
        A cell of the same class. Its tensors are the given objects themselves.
    """
    return _bound(cell, tensors, {})


def _bound(cell: ModuleType, tensors: Mapping[str, Tensor], shared: dict[int, Any]) -> ModuleType:
    bound = object.__new__(type(cell))
    bound.__dict__.update(cell.__dict__)
    parts = cell.__dict__["_modules"]
    replaced = dict(shared) if parts else shared
    for kind in ("_parameters", "_buffers"):
        own = cell.__dict__[kind]
        if shared:
            new = {n: tensors.get(n, shared.get(id(t), t)) for n, t in own.items()}
        else:
            new = {n: tensors.get(n, t) for n, t in own.items()}
        bound.__dict__[kind] = new
        if parts:
            replaced.update((id(t), new[n]) for n, t in own.items() if new[n] is not t)
    bound.__dict__["_modules"] = {
        name: None if part is None else _bound(part, _of_part(tensors, f"{name}."), replaced)
        for name, part in parts.items()
    }
    return bound


def _of_part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def converted(cell: ModuleType, function: Callable[[Tensor], Tensor]) -> ModuleType:
    """Return a shallow copy of a cell whose tensors are a function's values of the cell's own.

    `Module.to` changes the module itself, or swaps its tensors, which fake tensors do not allow.

    Arguments:
        cell: any cell, or module, whose submodules it copies likewise.
        function: a map of tensors without gradient; a tensor that is shared stays one.

    Returns:
        A cell of the same class, with parameters of its own.
    """
    made: dict[int, Tensor] = {}
    named: dict[str, Tensor] = {}
    for name, parameter in cell.named_parameters(remove_duplicate=False):
        new = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        named[name] = made.setdefault(id(parameter), new)
    for name, buffer in cell.named_buffers(remove_duplicate=False):
        named[name] = made.setdefault(id(buffer), function(buffer.detach()))
    return bind(cell, named)
