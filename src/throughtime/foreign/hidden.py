"""Modules and parameters that a model does not list: held in a Python list, or made in forward."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


class Hidden(NamedTuple):
    """Something in an attribute of a module that its parameters() and modules() do not list.

    Attributes:
        owner: module whose attribute it is.
        attribute: name of the attribute.
        path: expression for it, as "layers[0]".
        value: the module or tensor.
    """

    owner: nn.Module
    attribute: str
    path: str
    value: Any


def hidden_in(model: nn.Module) -> list[Hidden]:
    """List the modules and the trainable tensors that a model holds and does not list.

    Arguments:
        model: any module.
    """
    known = {id(m) for m in model.modules()} | {id(p) for p in model.parameters()}
    found: list[Hidden] = []
    for name, owner in model.named_modules():
        for attribute, value in vars(owner).items():
            if attribute.startswith("_"):
                continue
            path = f"{name}.{attribute}" if name else attribute
            for where, leaf in _leaves(value, path):
                wanted = isinstance(leaf, nn.Module) or (
                    isinstance(leaf, Tensor) and leaf.is_leaf and leaf.requires_grad
                )
                if wanted and id(leaf) not in known:
                    known.add(id(leaf))
                    if isinstance(leaf, nn.Module):
                        listed = {id(p) for p in model.parameters()}
                        if all(id(p) in listed for p in leaf.parameters()):
                            continue
                        known |= {id(m) for m in leaf.modules()}
                    found.append(Hidden(owner, attribute, where, leaf))
    return found


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        for k, part in enumerate(value):
            yield from _leaves(part, f"{path}[{k}]")
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{path}[{key!r}]")
    else:
        yield path, value


def hidden_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that a model holds and does not list, by an expression for each."""
    found: dict[str, Tensor] = {}
    for _, _, path, value in hidden_in(model):
        named = value.named_parameters() if isinstance(value, nn.Module) else [("", value)]
        found |= {f"{path}.{name}" if name else path: tensor for name, tensor in named}
    return found


def register_hidden(model: nn.Module) -> dict[str, str]:
    """Register the hidden modules of a model, with parameters that are not trained, as before.

    Arguments:
        model: a copy, which changes.

    Returns:
        The expression for each hidden module, by its new name within the model.
    """
    names = {id(module): name for name, module in model.named_modules()}
    found: dict[str, str] = {}
    for owner, attribute, path, value in hidden_in(model):
        if not isinstance(value, nn.Module):
            continue
        own = f"{attribute}_{sum(n.startswith(f'{attribute}_') for n in owner._modules)}"
        owner.add_module(own, value.requires_grad_(False))
        outer = names[id(owner)]
        found[f"{outer}.{own}" if outer else own] = path
    return found


def made_in_forward(model: nn.Module, run: Callable[[], Any]) -> tuple[Any, list[nn.Module]]:
    """Return the modules with trainable parameters that each run makes anew, with other values.

    Arguments:
        model: copy of the model, in evaluation mode.
        run: function that runs it.

    Returns:
        Result of the last run, and the modules of that run, in the order of their calls.
    """
    runs: list[list[nn.Module]] = []  # kept alive, so that no id is used twice

    def enter(module: nn.Module, inputs: Any) -> None:
        del inputs
        if not any(module is other for other in runs[-1]):
            runs[-1].append(module)

    def unknown() -> tuple[Any, list[nn.Module]]:
        runs.append([])
        handle = register_module_forward_pre_hook(enter)
        try:
            result = run()
        finally:
            handle.remove()
        return result, [m for m in runs[-1] if id(m) not in known and _values(m)]

    known = {id(module) for module in model.modules()}
    known |= {
        id(part)
        for one in hidden_in(model)
        if isinstance(one.value, nn.Module)
        for part in one.value.modules()
    }
    result, first = unknown()
    if not first:
        return result, []
    earlier = [_values(module) for module in first]
    known |= {id(module) for module in first}
    result, made = unknown()
    return result, [m for m in made if not any(_equal(_values(m), values) for values in earlier)]


def _values(module: nn.Module) -> list[Tensor]:
    """List the trainable parameters of a module itself."""
    return [p.detach() for p in module.parameters(recurse=False) if p.requires_grad]


def _equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))
