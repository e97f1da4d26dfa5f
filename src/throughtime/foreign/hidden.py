"""Modules and parameters that a model holds without having registered them, as in a Python list."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn


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
