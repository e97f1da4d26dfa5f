"""A cell that reads its parameters from given tensors instead of its own."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor, nn

ModuleType = TypeVar("ModuleType", bound=nn.Module)


def bind(cell: ModuleType, tensors: Mapping[str, Tensor]) -> ModuleType:
    """A shallow copy of a cell with these tensors in place of its parameters and buffers.

    The cell itself is untouched, so that several threads may run it at once, which
    `torch.func.functional_call` does not allow: it swaps the tensors of the module in place.

    Arguments:
        cell: any cell, or module, whose submodules it copies likewise.
        tensors: by name as in `named_parameters(remove_duplicate=False)`; those that are left out
            stay the cell's own.

    Returns:
        A cell of the same class. Its tensors are the given objects themselves.
    """
    bound = object.__new__(type(cell))
    bound.__dict__.update(cell.__dict__)
    for kind in ("_parameters", "_buffers"):
        own = cell.__dict__[kind]
        bound.__dict__[kind] = {name: tensors.get(name, value) for name, value in own.items()}
    bound.__dict__["_modules"] = {
        name: child
        if child is None
        else bind(
            child,
            {key[len(name) + 1 :]: t for key, t in tensors.items() if key.startswith(f"{name}.")},
        )
        for name, child in cell.__dict__["_modules"].items()
    }
    return bound


def converted(cell: ModuleType, function: Callable[[Tensor], Tensor]) -> ModuleType:
    """A shallow copy of a cell on the values of a function of its tensors; the cell keeps its own.

    `Module.to` changes the module itself, or swaps its tensors, which fake tensors do not allow.

    Arguments:
        cell: any cell, or module, whose submodules it copies likewise.
        function: of a tensor without gradient; a tensor that is shared stays one.

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
